//! Every size, offset and constant against the headers of the installed libibverbs, as bindgen
//! reads them.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::mem::offset_of;

use linerate_ibverbs_sys::*;

/// One line a fact that we state: `("ibv_sge::addr", offset)`.
fn ours() -> Vec<(&'static str, i128)> {
    let mut facts = Vec::new();
    macro_rules! layout {
        ($($ty:ident { $($field:ident $(as $c:literal)?),* $(,)? })+) => {$(
            facts.push((concat!("size ", stringify!($ty)), size_of::<$ty>() as i128));
            $(facts.push((
                layout!(@name $ty $field $($c)?),
                offset_of!($ty, $field) as i128,
            ));)*
        )+};
        (@name $ty:ident $field:ident $c:literal) => { concat!(stringify!($ty), "::", $c) };
        (@name $ty:ident $field:ident) => { concat!(stringify!($ty), "::", stringify!($field)) };
    }
    macro_rules! constants {
        ($($name:ident)+) => { $(facts.push((stringify!($name), $name as i128));)+ };
    }
    layout! {
        ibv_device { node_type, transport_type, name, dev_name, dev_path, ibdev_path }
        ibv_context_ops { poll_cq, req_notify_cq, post_srq_recv, post_send, post_recv }
        ibv_context { device, ops, cmd_fd, async_fd, num_comp_vectors, mutex, abi_compat }
        ibv_device_attr {
            fw_ver, node_guid, max_mr_size, vendor_part_id, max_qp_wr, device_cap_flags, max_sge,
            max_cqe, atomic_cap, max_raw_ethy_qp, max_srq_sge, max_pkeys, phys_port_cnt,
        }
        ibv_device_attr_ex {
            orig_attr, comp_mask, odp_caps, completion_timestamp_mask, hca_core_clock,
            device_cap_flags_ex, tso_caps, rss_caps, max_wq_type_rq, packet_pacing_caps,
            raw_packet_caps, tm_caps, cq_mod_caps, max_dm_size, pci_atomic_caps, xrc_odp_caps,
            phys_port_cnt_ex,
        }
        ibv_odp_caps { general_caps, per_transport_caps }
        ibv_tso_caps { max_tso, supported_qpts }
        ibv_rss_caps {
            supported_qpts, max_rwq_indirection_tables, max_rwq_indirection_table_size,
            rx_hash_fields_mask, rx_hash_function,
        }
        ibv_packet_pacing_caps { qp_rate_limit_min, qp_rate_limit_max, supported_qpts }
        ibv_pd { context, handle }
        ibv_td { context }
        ibv_td_init_attr { comp_mask }
        ibv_parent_domain_init_attr { pd, td, comp_mask, alloc, free, pd_context }
        ibv_mr { context, pd, addr, length, handle, lkey, rkey }
        ibv_values_ex { comp_mask, raw_clock }
        ibv_comp_channel { context, fd, refcnt }
        ibv_async_event { element, event_type }
        ibv_cq { context, channel, cq_context, handle, cqe, mutex, cond, comp_events_completed }
        ibv_cq_ex {
            context, channel, cqe, comp_mask, status, wr_id, start_poll, next_poll, end_poll,
            read_opcode, read_vendor_err, read_byte_len, read_imm_data, read_qp_num, read_src_qp,
            read_wc_flags, read_slid, read_sl, read_dlid_path_bits, read_completion_ts, read_cvlan,
            read_flow_tag, read_tm_info, read_completion_wallclock_ns,
        }
        ibv_cq_init_attr_ex {
            cqe, cq_context, channel, comp_vector, wc_flags, comp_mask, flags, parent_domain,
        }
        ibv_poll_cq_attr { comp_mask }
        ibv_moderate_cq { cq_count, cq_period }
        ibv_modify_cq_attr { attr_mask, moderate }
        ibv_wc {
            wr_id, status, opcode, vendor_err, byte_len, qp_num, src_qp, wc_flags, pkey_index,
            slid, sl, dlid_path_bits,
        }
        ibv_sge { addr, length, lkey }
        ibv_recv_wr { wr_id, next, sg_list, num_sge }
        ibv_send_wr { wr_id, next, sg_list, num_sge, opcode, send_flags, wr, qp_type }
        ibv_qp {
            context, qp_context, pd, send_cq, recv_cq, srq, handle, qp_num, state, qp_type, mutex,
            cond, events_completed,
        }
        ibv_qp_cap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data }
        ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all }
        ibv_qp_init_attr_ex {
            cap, qp_type, sq_sig_all, comp_mask, pd, xrcd, create_flags, max_tso_header,
            rwq_ind_tbl, rx_hash_conf, source_qpn, send_ops_flags,
        }
        ibv_global_route { dgid, flow_label, sgid_index, hop_limit, traffic_class }
        ibv_ah_attr { grh, dlid, sl, src_path_bits, static_rate, is_global, port_num }
        ibv_ah { context, pd, handle }
        ibv_qp_attr {
            qp_state, qkey, sq_psn, dest_qp_num, qp_access_flags, cap, ah_attr, alt_ah_attr,
            pkey_index, sq_draining, port_num, timeout, alt_timeout, rate_limit,
        }
        ibv_wq {
            context, wq_context, pd, cq, wq_num, handle, state, wq_type, post_recv, mutex, cond,
            events_completed, comp_mask,
        }
        ibv_wq_init_attr {
            wq_context, wq_type, max_wr, max_sge, pd, cq, comp_mask, create_flags,
        }
        ibv_wq_attr { attr_mask, wq_state, curr_wq_state, flags, flags_mask }
        ibv_rwq_ind_table { context, ind_tbl_handle, ind_tbl_num, comp_mask }
        ibv_rwq_ind_table_init_attr { log_ind_tbl_size, ind_tbl, comp_mask }
        ibv_rx_hash_conf { rx_hash_function, rx_hash_key_len, rx_hash_key, rx_hash_fields_mask }
        ibv_flow { comp_mask, context, handle }
        ibv_flow_attr { comp_mask, type_, size, priority, num_of_specs, port, flags }
        ibv_flow_eth_filter { dst_mac, src_mac, ether_type, vlan_tag }
        ibv_flow_spec_eth { type_, size, val, mask }
        ibv_flow_ipv4_filter { src_ip, dst_ip }
        ibv_flow_spec_ipv4 { type_, size, val, mask }
        ibv_flow_ipv6_filter {
            src_ip, dst_ip, flow_label, next_hdr, traffic_class, hop_limit,
        }
        ibv_flow_spec_ipv6 { type_, size, val, mask }
        ibv_flow_tcp_udp_filter { dst_port, src_port }
        ibv_flow_spec_tcp_udp { type_, size, val, mask }
        ibv_flow_spec_action_tag { type_, size, tag_id }
        ibv_flow_spec_action_drop { type_, size }
    }
    constants! {
        IBV_DEVICE_MANAGED_FLOW_STEERING IBV_DEVICE_RAW_IP_CSUM
        IBV_RAW_PACKET_CAP_CVLAN_STRIPPING IBV_RAW_PACKET_CAP_SCATTER_FCS
        IBV_RAW_PACKET_CAP_IP_CSUM IBV_RAW_PACKET_CAP_DELAY_DROP
        IBV_PORT_DOWN IBV_PORT_ACTIVE IBV_LINK_LAYER_INFINIBAND IBV_LINK_LAYER_ETHERNET
        IBV_ACCESS_LOCAL_WRITE IBV_ACCESS_HUGETLB IBV_ACCESS_RELAXED_ORDERING
        IBV_VALUES_MASK_RAW_CLOCK
        IBV_EVENT_CQ_ERR IBV_EVENT_QP_FATAL IBV_EVENT_QP_REQ_ERR IBV_EVENT_QP_ACCESS_ERR IBV_EVENT_DEVICE_FATAL IBV_EVENT_PORT_ACTIVE
        IBV_EVENT_PORT_ERR IBV_EVENT_WQ_FATAL
        IBV_WC_EX_WITH_BYTE_LEN IBV_WC_EX_WITH_QP_NUM IBV_WC_EX_WITH_COMPLETION_TIMESTAMP
        IBV_WC_EX_WITH_CVLAN IBV_WC_EX_WITH_FLOW_TAG
        IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK
        IBV_CQ_INIT_ATTR_MASK_FLAGS IBV_CREATE_CQ_ATTR_SINGLE_THREADED
        IBV_WC_SUCCESS IBV_WC_LOC_LEN_ERR IBV_WC_LOC_QP_OP_ERR IBV_WC_LOC_PROT_ERR
        IBV_WC_WR_FLUSH_ERR IBV_WC_FATAL_ERR IBV_WC_GENERAL_ERR
        IBV_WC_SEND IBV_WC_RECV IBV_WC_GRH IBV_WC_IP_CSUM_OK
        IBV_QPT_UD IBV_QPT_RAW_PACKET
        IBV_QP_INIT_ATTR_PD IBV_QP_INIT_ATTR_CREATE_FLAGS IBV_QP_INIT_ATTR_IND_TABLE
        IBV_QP_INIT_ATTR_RX_HASH
        IBV_QP_CREATE_BLOCK_SELF_MCAST_LB IBV_QP_CREATE_SCATTER_FCS IBV_QP_CREATE_CVLAN_STRIPPING
        IBV_QP_CREATE_PCI_WRITE_END_PADDING
        IBV_QPS_RESET IBV_QPS_INIT IBV_QPS_RTR IBV_QPS_RTS IBV_QPS_ERR
        IBV_QP_STATE IBV_QP_PKEY_INDEX IBV_QP_PORT IBV_QP_QKEY IBV_QP_SQ_PSN
        IBV_WQT_RQ IBV_WQS_RESET IBV_WQS_RDY IBV_WQS_ERR IBV_WQ_ATTR_STATE
        IBV_RX_HASH_FUNC_TOEPLITZ IBV_RX_HASH_SRC_IPV4 IBV_RX_HASH_DST_IPV4
        IBV_RX_HASH_SRC_IPV6 IBV_RX_HASH_DST_IPV6 IBV_RX_HASH_SRC_PORT_TCP
        IBV_RX_HASH_DST_PORT_TCP IBV_RX_HASH_SRC_PORT_UDP IBV_RX_HASH_DST_PORT_UDP
        IBV_WR_SEND IBV_SEND_SIGNALED IBV_SEND_INLINE IBV_SEND_IP_CSUM
        IBV_FLOW_ATTR_NORMAL IBV_FLOW_ATTR_ALL_DEFAULT IBV_FLOW_ATTR_MC_DEFAULT
        IBV_FLOW_ATTR_SNIFFER IBV_FLOW_ATTR_FLAGS_DONT_TRAP
        IBV_FLOW_SPEC_ETH IBV_FLOW_SPEC_IPV4 IBV_FLOW_SPEC_IPV6 IBV_FLOW_SPEC_IPV4_EXT
        IBV_FLOW_SPEC_TCP IBV_FLOW_SPEC_UDP IBV_FLOW_SPEC_ACTION_TAG IBV_FLOW_SPEC_ACTION_DROP
    }
    facts
}

/// The same from the installed headers: bindgen's own layout checks and constants, as text.
fn theirs() -> Result<HashMap<String, i128>, String> {
    const HEADER: &str = "/usr/include/infiniband/verbs.h";
    if !std::path::Path::new(HEADER).exists() {
        return Err(format!("{HEADER} is missing (Debian package libibverbs-dev)"));
    }
    let run = std::panic::catch_unwind(|| {
        bindgen::Builder::default()
            .header(HEADER)
            .allowlist_type("(ibv|verbs)_.*")
            .allowlist_var("IBV_.*")
            .generate()
    });
    let text = match run {
        Ok(Ok(bindings)) => bindings.to_string(),
        Ok(Err(e)) => return Err(format!("bindgen: {e}")),
        Err(_) => return Err("bindgen finds no libclang (Debian package libclang-dev)".into()),
    };
    // `["Offset of field: ibv_sge::addr"][::std::mem::offset_of!(ibv_sge, addr) - 0usize];`
    // `pub const ibv_wc_status_IBV_WC_SUCCESS: ibv_wc_status = 0;`
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut facts = HashMap::new();
    for piece in flat.split("[\"").skip(1) {
        let Some((label, rest)) = piece.split_once("\"]") else { continue };
        let number = rest.split(';').next().and_then(|s| s.rsplit_once("- "));
        let Some(number) = number.and_then(|(_, n)| n.strip_suffix("usize]")) else { continue };
        let key = label.replace("Size of ", "size ").replace("Offset of field: ", "");
        facts.insert(key, number.parse().unwrap());
    }
    for piece in flat.split("pub const ").skip(1) {
        let Some((name, value)) = piece.split(';').next().and_then(|s| s.split_once(": ")) else {
            continue;
        };
        let Some(Ok(value)) = value.split_once("= ").map(|(_, v)| v.trim().parse()) else {
            continue;
        };
        let short = name.find("IBV_").map_or(name, |at| &name[at..]);
        facts.insert(short.to_owned(), value);
    }
    Ok(facts)
}

#[test]
fn the_installed_headers_agree() {
    let theirs = match theirs() {
        Ok(facts) => facts,
        Err(why) => return linerate_lab::skip("the_installed_headers_agree", &why),
    };
    let mut checked = 0;
    for (name, value) in ours() {
        let Some(&expected) = theirs.get(name) else { panic!("the headers do not have {name}") };
        assert_eq!(value, expected, "{name}");
        checked += 1;
    }
    assert!(checked > 350, "only {checked} facts were compared");
}

/// The slots in front of a context are counted back from it: these distances are the ABI.
#[test]
fn the_slots_keep_their_distance_to_the_context() {
    let distance = |offset| offset_of!(verbs_context, context) - offset;
    for (offset, expected) in [
        (offset_of!(verbs_context, query_port), 320),
        (offset_of!(verbs_context, modify_qp_rate_limit), 216),
        (offset_of!(verbs_context, alloc_parent_domain), 208),
        (offset_of!(verbs_context, dealloc_td), 200),
        (offset_of!(verbs_context, alloc_td), 192),
        (offset_of!(verbs_context, modify_cq), 184),
        (offset_of!(verbs_context, destroy_rwq_ind_table), 168),
        (offset_of!(verbs_context, create_rwq_ind_table), 160),
        (offset_of!(verbs_context, destroy_wq), 152),
        (offset_of!(verbs_context, modify_wq), 144),
        (offset_of!(verbs_context, create_wq), 136),
        (offset_of!(verbs_context, query_rt_values), 128),
        (offset_of!(verbs_context, create_cq_ex), 120),
        (offset_of!(verbs_context, query_device_ex), 104),
        (offset_of!(verbs_context, ibv_destroy_flow), 96),
        (offset_of!(verbs_context, ibv_create_flow), 80),
        (offset_of!(verbs_context, create_qp_ex), 56),
        (offset_of!(verbs_context, sz), 8),
    ] {
        assert_eq!(distance(offset), expected);
    }
}

#[test]
fn the_library_loads_or_says_why() {
    match Api::load() {
        Ok(api) => {
            // SAFETY: any status has a constant text.
            let text = unsafe { std::ffi::CStr::from_ptr((api.ibv_wc_status_str)(5)) };
            assert!(text.to_string_lossy().contains("Flushed"), "{text:?}");
        }
        Err(e) => {
            assert!(e.to_string().contains("libibverbs"), "{e}");
            linerate_lab::skip("the_library_loads", &e.to_string());
        }
    }
}
