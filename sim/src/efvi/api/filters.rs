//! Installing and removing filters.

use libc::c_int;
use linerate_efvi_sys::{ef_filter_cookie, ef_filter_spec, ef_vi, ef_vi_set};

use super::{Dh, SETS, next};
use crate::efvi::card::lock;
use crate::efvi::filter::{self, Filter};
use crate::efvi::ops::of;

/// Installs a filter in `filters`.
///
/// # Safety
///
/// As the C functions.
unsafe fn add_filter(
    filters: &mut Vec<Filter>,
    spec: *const ef_filter_spec,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        let Some(kind) = filter::read(&*spec) else { return -libc::EPROTONOSUPPORT };
        if filters.iter().any(|f| f.kind == kind) {
            return -libc::EEXIST;
        }
        let id = if kind.is_special() { -1 } else { next() as i32 & 0x7fff };
        filters.push(Filter { id, kind });
        let filter_type = (*spec).r#type as i32;
        cookie.write(ef_filter_cookie { filter_id: id, filter_type });
    }
    0
}

/// Removes a filter; of the special kinds only sniffing can be found again.
unsafe fn del_filter(filters: &mut Vec<Filter>, cookie: *mut ef_filter_cookie) -> c_int {
    // SAFETY: the caller vouches for it.
    let id = unsafe { (*cookie).filter_id };
    let at = filters.iter().position(|f| match id {
        -1 => f.kind == filter::FilterKind::Sniff,
        id => f.id == id,
    });
    match at {
        Some(at) => {
            filters.remove(at);
            0
        }
        None => -libc::EINVAL,
    }
}

pub(super) unsafe extern "C" fn filter_add(
    vi: *mut ef_vi,
    _: Dh,
    spec: *const ef_filter_spec,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for all three.
    unsafe {
        let v = of(vi);
        if let Some(rc) = v.card.refusal("ef_vi_filter_add") {
            return rc;
        }
        add_filter(&mut v.lock().filters, spec, cookie)
    }
}

pub(super) unsafe extern "C" fn filter_del(
    vi: *mut ef_vi,
    _: Dh,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe { del_filter(&mut of(vi).lock().filters, cookie) }
}

pub(super) unsafe extern "C" fn set_filter_add(
    set: *mut ef_vi_set,
    _: Dh,
    spec: *const ef_filter_spec,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for all three.
    unsafe {
        let Some(set) = lock(&SETS).get(&(*set).vis_res_id).cloned() else { return -libc::EINVAL };
        add_filter(&mut lock(&set.filters), spec, cookie)
    }
}

pub(super) unsafe extern "C" fn set_filter_del(
    set: *mut ef_vi_set,
    _: Dh,
    cookie: *mut ef_filter_cookie,
) -> c_int {
    // SAFETY: the caller vouches for both.
    unsafe {
        let Some(set) = lock(&SETS).get(&(*set).vis_res_id).cloned() else { return -libc::EINVAL };
        del_filter(&mut lock(&set.filters), cookie)
    }
}
