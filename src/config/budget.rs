//! The probe budget: what the checks of a configuration ask of this host, and whether it has that.
//!
//! What cannot be is refused, with what to change: more probes under way than files may be open,
//! and more ports in `TIME_WAIT` to one address than there are. What is merely tight is warned of.
//! The worst is taken throughout: every probe runs into its timeout at once.

use std::{fs, ops::AddAssign};

use serde::Serialize;

use super::{
    HashMap,
    diagnostic::{Place, Problem},
    read::Reader,
    service::Roll,
    tree::Node,
    vet::Setting,
};
use crate::{
    probe::{Endpoint, Host, Protocol, ephemeral_ports},
    registry::Registration,
    scheduler,
};

#[cfg(test)]
mod tests;

/// How long Linux keeps a port in `TIME_WAIT`, in seconds (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: f64 = 60.0;

/// The same where the kernel gives the port to the next connection to the same place
/// (`tcp_tw_reuse`): it does so after a second.
const TIME_WAIT_REUSED: f64 = 1.0;

/// More than this share of what there is, is tight.
const TIGHT: f64 = 0.5;

/// Files that the daemon needs beside those of probes: listeners, clients, the log, the state.
const OWN_FILES: u64 = 64;

/// What this host has to give. What cannot be read is taken to be without limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Means {
    /// Files that the daemon may have open: the limit that it raises its own to.
    pub files: u64,
    /// Ports for connections that we make.
    pub ports: f64,
    /// Which ports in `TIME_WAIT` the kernel gives away again.
    pub reuse: Reuse,
    /// Connections that the kernel's firewall can keep in mind, if it keeps any.
    pub tracked: Option<Tracked>,
}

/// Which ports in `TIME_WAIT` are given to the next connection: `net.ipv4.tcp_tw_reuse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// None.
    Never,
    /// Those to loopback addresses.
    Loopback,
    /// All.
    Always,
}

/// What the kernel's firewall (`nf_conntrack`) keeps in mind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    /// Connections at most; packets of further ones are dropped.
    pub most: f64,
    /// Seconds for which it keeps a connection that was reset.
    pub reset: f64,
    /// Seconds for which it keeps one that was closed in order.
    pub closed: f64,
    /// Seconds for which it keeps an exchange of datagrams.
    pub datagram: f64,
}

impl Means {
    /// Reads what the kernel says.
    pub fn read() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        Self {
            files: limit.unwrap_or(u64::MAX),
            ports: ephemeral_ports()
                .map_or(f64::INFINITY, |ports| f64::from(ports.end() - ports.start()) + 1.0),
            reuse: match text("net/ipv4/tcp_tw_reuse").as_deref() {
                Some("1") => Reuse::Always,
                Some("2") => Reuse::Loopback,
                Some(_) | None => Reuse::Never,
            },
            tracked: Tracked::read(),
        }
    }
}

impl Tracked {
    /// Nothing if it keeps none: there is no rule that needs it, or it is not our network.
    fn read() -> Option<Self> {
        let number = |name| text(&format!("net/netfilter/nf_conntrack_{name}"))?.parse().ok();
        number("count").filter(|count: &f64| *count > 0.0)?;
        Some(Self {
            most: number("max")?,
            reset: number("tcp_timeout_close").unwrap_or(10.0),
            closed: number("tcp_timeout_time_wait").unwrap_or(120.0),
            datagram: number("udp_timeout").unwrap_or(30.0),
        })
    }
}

fn text(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// What the checks ask of the host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Budget {
    /// Probes a second.
    pub probes_per_second: f64,
    /// New connections and exchanges of datagrams a second.
    pub connections_per_second: f64,
    /// Probes under way at once if every one of them runs into its timeout.
    pub hung: f64,
    /// Most that may be.
    pub max_in_flight: usize,
    /// Files that the daemon may have open.
    pub open_files: u64,
    /// Ports in `TIME_WAIT` at most.
    pub time_wait: f64,
    /// The address and port to which there are the most of them.
    pub busiest: Option<Busiest>,
    /// Ports to one address and port that there are; nothing if that is not known.
    pub ports: Option<f64>,
    /// Connections that the kernel's firewall keeps in mind at once, if it keeps any.
    pub tracked: Option<f64>,
    /// Most that it can.
    pub max_tracked: Option<f64>,
    /// The check that the busiest address is first asked by.
    #[serde(skip)]
    first: Option<usize>,
}

/// A destination that is closed to in order, with the ports it takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Busiest {
    /// Address and port.
    pub destination: String,
    /// Ports in `TIME_WAIT` or in use by probes that hang.
    pub ports: f64,
}

/// What is asked of one address and port by probes that close in order.
#[derive(Debug, Default)]
struct Ports {
    first: usize,
    rate: f64,
    hung: f64,
}

/// What all checks together ask.
#[derive(Debug, Default)]
struct Sum {
    probes: f64,
    connections: f64,
    hung: f64,
    /// By host: no more than so many are under way to each.
    hosts: HashMap<Host, f64>,
    /// Seconds for which the firewall keeps all that begins in a second.
    tracked: f64,
}

impl Budget {
    /// What these registrations ask of a host that has that to give.
    pub fn of(
        registrations: &[Registration],
        scheduler: &scheduler::Config,
        means: &Means,
    ) -> Self {
        let per_host = f64::from(scheduler.max_in_flight_per_host.get());
        let mut sum = Sum::default();
        let mut ports: HashMap<&Endpoint, Ports> = HashMap::default();
        for (index, registration) in registrations.iter().enumerate() {
            for check in &registration.checks {
                let probe = &check.definition.probe;
                if probe.pushed().is_some() {
                    continue;
                }
                let schedule = &check.definition.schedule;
                let rate = 1.0 / schedule.interval.as_secs_f64();
                // A check whose timeout is longer than its interval still has one probe under way.
                let hung = (schedule.timeout.as_secs_f64() * rate).min(1.0);
                sum.probes += rate;
                let endpoint = check.endpoint.as_ref().unwrap_or(&registration.instance.endpoint);
                let Some(destination) = probe.destination(endpoint) else {
                    sum.hung += hung;
                    continue;
                };
                sum.hosts.entry(destination.host.clone()).or_default().add_assign(hung);
                if probe.keeps_connections() {
                    continue;
                }
                sum.connections += rate;
                sum.tracked += rate * kept(probe.protocol(), probe.leaves_ports(), means);
                if probe.leaves_ports() {
                    let held = ports
                        .entry(destination)
                        .or_insert_with(|| Ports { first: index, ..Ports::default() });
                    held.rate += rate;
                    held.hung += hung;
                }
            }
        }
        sum.hung += sum.hosts.values().map(|hung| hung.min(per_host)).sum::<f64>();
        Self::put_together(&sum, &ports, (scheduler, means))
    }

    fn put_together(
        sum: &Sum,
        ports: &HashMap<&Endpoint, Ports>,
        (scheduler, means): (&scheduler::Config, &Means),
    ) -> Self {
        let waiting = |endpoint: &Endpoint, held: &Ports| held.rate * waits(endpoint, means.reuse);
        let taken = |endpoint: &Endpoint, held: &Ports| waiting(endpoint, held) + held.hung;
        let busiest = ports.iter().map(|(to, held)| (*to, held, taken(to, held)));
        // Of those alike the first, so that the answer is always the same.
        let busiest =
            busiest.max_by(|a, b| a.2.total_cmp(&b.2).then_with(|| b.1.first.cmp(&a.1.first)));
        Self {
            probes_per_second: sum.probes,
            connections_per_second: sum.connections,
            hung: whole(sum.hung),
            max_in_flight: scheduler.in_flight_limit_of(means.files),
            open_files: means.files,
            time_wait: whole(ports.iter().map(|(to, held)| waiting(to, held)).sum()),
            ports: means.ports.is_finite().then_some(means.ports),
            first: busiest.as_ref().map(|(_, held, _)| held.first),
            busiest: busiest
                .map(|(to, _, taken)| Busiest { destination: to.to_string(), ports: whole(taken) }),
            tracked: means.tracked.map(|_| whole(sum.tracked)),
            max_tracked: means.tracked.map(|tracked| tracked.most),
        }
    }

    /// What cannot be, and what is tight.
    fn findings(&self, scheduler: &scheduler::Config, places: &[Place]) -> Vec<Problem> {
        let mut findings = Vec::new();
        self.judge_files(scheduler, &mut findings);
        self.judge_ports(places, &mut findings);
        self.judge_tracked(&mut findings);
        findings
    }

    fn judge_files(&self, scheduler: &scheduler::Config, findings: &mut Vec<Problem>) {
        let Self { hung, max_in_flight, open_files, .. } = self;
        let most = open_files.saturating_sub(OWN_FILES);
        let is_meant = scheduler.max_in_flight.is_some();
        if *hung > float(most) && !is_meant {
            findings.push(
                Problem::error(format!(
                    "if all targets hang, {hung} probes are under way, and only {open_files} files \
                     may be open"
                ))
                .help(format!(
                    "let the daemon open {} files (`LimitNOFILE=` in the unit, `ulimit -Hn`), \
                     lengthen intervals or shorten timeouts",
                    files_for(*hung)
                ))
                .help(
                    "or set `scheduler.max_in_flight` to say that skipping runs is meant while so \
                     many hang",
                ),
            );
        } else if *hung > float(*max_in_flight as u64) {
            findings.push(
                Problem::warning(format!(
                    "if all targets hang, {hung} probes are due to be under way, and \
                     {max_in_flight} may be"
                ))
                .help("runs beyond that are skipped, first those of checks that fail already")
                .help(format!(
                    "raise `scheduler.max_in_flight`, or its default by letting the daemon open {} \
                     files (`LimitNOFILE=` in the unit); or lengthen intervals, or shorten timeouts",
                    files_for(*hung)
                )),
            );
        }
    }

    fn judge_ports(&self, places: &[Place], findings: &mut Vec<Problem>) {
        let (Some(busiest), Some(ports)) = (&self.busiest, self.ports) else { return };
        let Busiest { destination, ports: taken } = busiest;
        let message = format!(
            "probes of `{destination}` leave {taken} ports in TIME_WAIT, and there are {ports}"
        );
        let problem = if *taken > ports {
            Problem::error(message)
        } else if *taken > ports * TIGHT {
            Problem::warning(message)
        } else {
            return;
        };
        let place = self.first.and_then(|first| places.get(first)).cloned();
        let problem = match place {
            Some(place) => problem.at(place, "the first is a check of this instance"),
            None => problem,
        };
        findings.push(
            problem
                .help("leave `close: reset`, the default, which keeps no port")
                .help("or lengthen intervals, or widen net.ipv4.ip_local_port_range"),
        );
    }

    fn judge_tracked(&self, findings: &mut Vec<Problem>) {
        let (Some(tracked), Some(most)) = (self.tracked, self.max_tracked) else { return };
        if tracked > most * TIGHT {
            findings.push(
                Problem::warning(format!(
                    "the firewall has to keep {tracked} connections of probes in mind, and can keep \
                     {most}"
                ))
                .help("when it is full, packets are dropped, of all that use this host")
                .help(
                    "raise net.netfilter.nf_conntrack_max, or exempt probes from tracking \
                     (NOTRACK), or lengthen intervals",
                ),
            );
        }
    }
}

/// For how many seconds the firewall keeps what one probe began.
fn kept(protocol: Protocol, closes: bool, means: &Means) -> f64 {
    let Some(tracked) = means.tracked else { return 0.0 };
    if protocol.uses_datagrams() {
        tracked.datagram
    } else if closes {
        tracked.closed
    } else {
        tracked.reset
    }
}

/// For how many seconds a port to there waits.
fn waits(endpoint: &Endpoint, reuse: Reuse) -> f64 {
    let is_loopback = matches!(&endpoint.host, Host::Ip(ip) if ip.is_loopback());
    match reuse {
        Reuse::Always => TIME_WAIT_REUSED,
        Reuse::Loopback if is_loopback => TIME_WAIT_REUSED,
        Reuse::Never | Reuse::Loopback => TIME_WAIT,
    }
}

/// How many files the daemon is to be let open so that by default so many probes may be under way.
fn files_for(hung: f64) -> f64 {
    2.0f64.mul_add(hung, float(OWN_FILES)).ceil()
}

/// A number of things, but for the noise of many additions.
fn whole(sum: f64) -> f64 {
    (sum - 1e-6).max(0.0).ceil()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of files are far below 2^53")]
fn float(n: u64) -> f64 {
    n as f64
}

/// Reports what cannot be on this host, and what is tight.
pub(super) fn judge(
    reader: &mut Reader<'_>,
    root: &Node,
    roll: &Roll,
    (scheduler, means): (&scheduler::Config, &Means),
) {
    let budget = Budget::of(&roll.registrations, scheduler, means);
    if let Some(most) = scheduler.max_in_flight
        && u64::from(most.get()).saturating_add(OWN_FILES) > means.files
    {
        let problem = Problem::error(format!(
            "only {} files may be open, too few for so many probes under way",
            means.files
        ))
        .help("each takes one; raise the limit (`LimitNOFILE=` in the unit, `ulimit -Hn`)");
        let setting = Setting { root, path: ["scheduler", "max_in_flight"], flag: false };
        setting.blame(reader, problem, "this is set");
    }
    for finding in budget.findings(scheduler, &roll.places) {
        reader.report(finding);
    }
}
