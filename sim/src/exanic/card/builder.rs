//! What a card is to be like, and powering it on.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use linerate_exanic_sys::ids::{caps, port_status};
use linerate_exanic_sys::regs;

use super::{Card, Port, Shared};
use crate::Plug;
use crate::exanic::clock::Clock;
use crate::exanic::fault::Faults;
use crate::exanic::memory::Memory;
use crate::exanic::receive::RxPath;
use crate::exanic::{FILTER_BUFFERS, PORTS, TX_BYTES_PER_PORT, registry};

/// How long the card's thread sleeps when a wake-up cannot reach it (a veth end, a full wire).
const IDLE: Duration = Duration::from_micros(500);
const LINK_UP: u32 =
    port_status::ENABLED | port_status::SFP | port_status::SIGNAL | port_status::LINK;

/// What a card is to be like.
#[derive(Debug)]
pub struct CardBuilder {
    tick_hz: u32,
    hardware_id: u32,
    caps: u32,
    speed_mbps: u32,
    start_ticks: Option<u64>,
    info_page: bool,
    thread: bool,
    plugs: [Plug; PORTS],
    interfaces: [String; PORTS],
}

impl Default for CardBuilder {
    fn default() -> Self {
        Self {
            tick_hz: 161_132_800,
            hardware_id: 4,
            caps: caps::SPEED_1G | caps::SPEED_10G,
            speed_mbps: 10_000,
            start_ticks: None,
            info_page: true,
            thread: true,
            plugs: [Plug::open(), Plug::open()],
            interfaces: [String::new(), String::new()],
        }
    }
}

impl CardBuilder {
    /// Ticks per second of the card's clock. The X10's 161,132,800 unless told otherwise.
    #[must_use]
    pub fn tick_hz(mut self, hz: u32) -> Self {
        self.tick_hz = hz;
        self
    }

    /// Hardware id: 4 (X10) unless told otherwise.
    #[must_use]
    pub fn hardware_id(mut self, id: u32) -> Self {
        self.hardware_id = id;
        self
    }

    /// Port speed in Mb/s, which a clock that a test moves goes by.
    #[must_use]
    pub fn speed_mbps(mut self, mbps: u32) -> Self {
        self.speed_mbps = mbps;
        self
    }

    /// Stops the clock at `ticks`: it moves by the wire time of each frame and by
    /// [`Card::set_ticks`] only.
    #[must_use]
    pub fn manual_clock(mut self, ticks: u64) -> Self {
        self.start_ticks = Some(ticks);
        self
    }

    /// A card whose driver keeps no info page, with a 64-bit clock in registers instead.
    #[must_use]
    pub fn without_info_page(mut self) -> Self {
        self.info_page = false;
        self.caps |= caps::HW_TIME_HI;
        self
    }

    /// No thread: the card works in [`Card::step`] only.
    #[must_use]
    pub fn without_thread(mut self) -> Self {
        self.thread = false;
        self
    }

    /// What port `port` is plugged into.
    #[must_use]
    pub fn plug(mut self, port: usize, plug: Plug) -> Self {
        self.plugs[port] = plug;
        self
    }

    /// The name of port `port`'s network interface; without one it has none.
    #[must_use]
    pub fn interface(mut self, port: usize, name: &str) -> Self {
        name.clone_into(&mut self.interfaces[port]);
        self
    }

    /// Powers the card on.
    #[must_use]
    pub fn build(self) -> Card {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let mut plugs = self.plugs.into_iter();
        let mut interfaces = self.interfaces.into_iter();
        let ports = std::array::from_fn(|_| Port {
            plug: plugs.next().unwrap_or_else(Plug::open),
            interface: interfaces.next().unwrap_or_default(),
            rx: Mutex::new(RxPath::new()),
            commands: Mutex::default(),
            serving: Mutex::default(),
        });
        let shared = Arc::new(Shared {
            name: CString::new(format!("exasim{number}")).unwrap_or_default(),
            memory: Memory::new(),
            clock: Clock::new(self.tick_hz),
            faults: Faults::default(),
            ports,
            resources: Mutex::default(),
            has_info_page: self.info_page,
            dummy_writes: AtomicU64::new(0),
            commands_lost: AtomicU64::new(0),
            bad_commands: AtomicU64::new(0),
            thread: OnceLock::new(),
            stop: AtomicBool::new(false),
        });
        if let Some(ticks) = self.start_ticks {
            shared.clock.set(ticks);
        }
        let set = |index, value| shared.memory.registers.set(index, value);
        set(regs::PCIE_IF_VER, 1);
        set(regs::HW_ID, self.hardware_id);
        set(regs::HW_REV_DATE, 1_622_764_800);
        set(regs::CLK_HZ, self.tick_hz);
        set(regs::CAPS, self.caps);
        set(regs::NUM_FILTER_BUFFERS, FILTER_BUFFERS as u32);
        for port in 0..PORTS as u32 {
            let set = |reg, value| set(regs::port(port, reg), value);
            set(regs::PORT_ENABLED, 1);
            set(regs::PORT_SPEED, self.speed_mbps);
            set(regs::PORT_STATUS, LINK_UP);
            set(regs::PORT_TX_REGION_OFFSET, port * TX_BYTES_PER_PORT as u32);
            set(regs::PORT_TX_REGION_SIZE, TX_BYTES_PER_PORT as u32);
            // A locally administered address, one per card and port.
            set(regs::PORT_MAC_OUI, u32::from_le_bytes([0x02, 0xec, 0x51, 0]));
            let [_, _, high, low] = number.to_be_bytes();
            set(regs::PORT_MAC_NIC, u32::from_le_bytes([high, low, port as u8, 0]));
        }
        shared.tick();
        registry::plug_in(&shared);
        let thread = self.thread.then(|| run(&shared)).flatten();
        Card { shared, thread }
    }
}

/// Starts the card's thread; without one the card works in [`Card::step`] only.
fn run(shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let card = Arc::clone(shared);
    let name = card.name.to_string_lossy().into_owned();
    let work = move || {
        linerate_common::own_threads::give_up_rights();
        let me = thread::current();
        for port in &card.ports {
            port.plug.wake_on_arrival(me.clone());
        }
        let _ = card.thread.set(me);
        while !card.stop.load(Relaxed) {
            if !card.turn() {
                thread::park_timeout(IDLE);
            }
        }
    };
    thread::Builder::new().name(name).spawn(work).ok()
}
