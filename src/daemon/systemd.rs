//! What systemd is told, if it is our parent: `Type=notify` and `WatchdogSec=`.

use sd_notify::NotifyState;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::scheduler::Pulse;

/// We are at work.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// We are on our way out.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Shows signs of life twice as often as systemd wants them, if it does and the prober threads are
/// alive; until `stop`.
pub(super) async fn watchdog(pulse: Pulse, stop: CancellationToken) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return stop.cancelled().await;
    };
    let mut ticks = interval(period / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                if pulse.is_felt() {
                    tell(&[NotifyState::Watchdog]);
                } else {
                    error!("A prober thread hangs; leaving it to systemd to restart us");
                }
            }
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "systemd not notified");
    }
}
