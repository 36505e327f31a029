//! Delay: a forwarder in user space between a host's link and the network's bridge.
//!
//! The kernel at hand may lack its own delay queue. While a delay is in effect, the host's link
//! sits on a bridge of its own (the detour), and frames go from there through two TAP devices of
//! this process to the network's bridge. TAP devices without offloads make the kernel finish
//! checksums and cut large segments before it hands frames over, so that frames are just bytes
//! here. Frames keep their order; the queue is bounded, and what does not fit is lost, as on any
//! link.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use rustix::ioctl::{self, Setter, opcode};

use super::super::command::{check, program};
use super::super::error::{At as _, Result};
use super::super::network::{self, Network, Ports, SWITCH};
use super::super::paths::Paths;

/// Frames that may wait in one direction.
const QUEUE: usize = 16_384;
/// The largest frame: an Ethernet header and what the public network carries, with room for tags.
const LARGEST_FRAME: usize = 2048;
/// `IFF_TAP | IFF_NO_PI`: whole Ethernet frames, without a header of the driver's own.
const TAP_WITHOUT_HEADER: u16 = 0x0002 | 0x1000;

/// What forwarding costs beyond the wanted delay.
#[derive(Debug, Default)]
pub(super) struct Cost {
    frames: AtomicU64,
    late_microseconds: AtomicU64,
    worst_microseconds: AtomicU64,
    lost: AtomicU64,
}

impl Cost {
    /// The figures in words.
    pub(super) fn describe(&self) -> String {
        let frames = self.frames.load(Ordering::Relaxed);
        let late = self.late_microseconds.load(Ordering::Relaxed);
        format!(
            "forwarder's own cost: mean {} µs, worst {} µs over {frames} frames, {} lost",
            late.checked_div(frames).unwrap_or(0),
            self.worst_microseconds.load(Ordering::Relaxed),
            self.lost.load(Ordering::Relaxed)
        )
    }

    fn note(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.late_microseconds.fetch_add(late, Ordering::Relaxed);
        self.worst_microseconds.fetch_max(late, Ordering::Relaxed);
    }
}

/// Puts the detour between a host and its networks; frames are delayed for as long as this
/// process lives.
pub(super) fn install(
    paths: &Paths,
    host: &str,
    public: bool,
    delay: Duration,
) -> Result<Arc<Cost>> {
    let cost = Arc::new(Cost::default());
    for network in Network::ALL {
        if network == Network::Public && !public {
            continue;
        }
        let ports = Ports::of(host, network);
        let Ports { own, detour, inner, outer } = &ports;
        let (mtu, bridge) = (network.mtu(), network.bridge());
        let links = format!(
            "link add {detour} mtu {mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {detour} addrgenmode none up\n\
             tuntap add dev {inner} mode tap\ntuntap add dev {outer} mode tap\n"
        );
        network::batch(paths, SWITCH, &links)?;
        let (near, far) = (attach(paths, inner)?, attach(paths, outer)?);
        forward(&near, &far, delay, &cost)?;
        forward(&far, &near, delay, &cost)?;
        // The host's link moves last: until then frames take the direct way.
        let links = format!(
            "link set {inner} mtu {mtu} master {detour} up\n\
             link set {outer} mtu {mtu} master {bridge} up\nlink set {own} master {detour}\n"
        );
        network::batch(paths, SWITCH, &links)?;
    }
    Ok(cost)
}

/// Takes the detour away. What is not there needs no removal.
pub(super) fn remove(paths: &Paths, host: &str) -> Result<()> {
    let switch = paths.namespace(SWITCH);
    for network in Network::ALL {
        let Ports { own, detour, inner, outer } = Ports::of(host, network);
        if !network::has_link(paths, SWITCH, &detour) {
            continue;
        }
        if network::has_link(paths, SWITCH, &own) {
            let direct = format!("link set {own} master {}\n", network.bridge());
            network::batch(paths, SWITCH, &direct)?;
        }
        for link in [inner, outer, detour] {
            if network::has_link(paths, SWITCH, &link) {
                let mut command = program("ip", ["-n", &switch, "link", "del", &link]);
                check("cannot remove the delay", &mut command)?;
            }
        }
    }
    Ok(())
}

/// Opens a TAP device of the switch.
fn attach(paths: &Paths, name: &str) -> Result<File> {
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            network::enter(paths, SWITCH)?;
            let path = "/dev/net/tun";
            let file = File::options().read(true).write(true).open(path).at("cannot open", path)?;
            let mut request = [0_u8; 40];
            for (to, from) in request.iter_mut().take(15).zip(name.bytes()) {
                *to = from;
            }
            for (to, from) in request.iter_mut().skip(16).zip(TAP_WITHOUT_HEADER.to_ne_bytes()) {
                *to = from;
            }
            // SAFETY: TUNSETIFF reads a `struct ifreq`, which has 40 bytes: a name that ends with
            // 0 in the first 16, then the flags. The kernel keeps no reference to it.
            let attached = unsafe {
                let set = Setter::<{ opcode::write::<i32>(b'T', 202) }, [u8; 40]>::new(request);
                ioctl::ioctl(file.as_fd(), set)
            };
            attached.at("cannot attach to the TAP device", name)?;
            Ok(file)
        });
        super::super::down::join(opened)
    })
}

/// Forwards frames one way, on two threads: one stamps them, one waits and sends.
fn forward(from: &File, to: &File, delay: Duration, cost: &Arc<Cost>) -> Result<()> {
    let (sender, receiver) = sync_channel(QUEUE);
    let from = from.try_clone().at("cannot use", "/dev/net/tun")?;
    let to = to.try_clone().at("cannot use", "/dev/net/tun")?;
    let (arriving, leaving) = (Arc::clone(cost), Arc::clone(cost));
    std::thread::spawn(move || receive(from, &sender, delay, &arriving));
    std::thread::spawn(move || send(to, &receiver, &leaving));
    Ok(())
}

fn receive(mut from: File, queue: &SyncSender<(Instant, Vec<u8>)>, delay: Duration, cost: &Cost) {
    let mut buffer = vec![0_u8; LARGEST_FRAME];
    while let Ok(length) = from.read(&mut buffer) {
        let frame = buffer.get(..length).unwrap_or_default().to_vec();
        match queue.try_send((Instant::now() + delay, frame)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                cost.lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

fn send(mut to: File, queue: &Receiver<(Instant, Vec<u8>)>, cost: &Cost) {
    while let Ok((due, frame)) = queue.recv() {
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        // One write is one frame.
        match to.write_all(&frame) {
            Ok(()) => cost.note(Instant::now().saturating_duration_since(due)),
            Err(_) => {
                cost.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
