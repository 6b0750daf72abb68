//! The table of all metrics: the one source of their names, types, labels and help texts.
//!
//! `docs/metrics.md` is rendered from it, the exposition takes its words from it, and a test
//! compares it with what a running daemon shows and with what dashboards and alerts ask for.

use std::fmt::Write as _;

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, within a process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted by size.
    Histogram,
}

impl Kind {
    /// The word of the exposition formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// How the number of series grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Constant for a process.
    Process,
    /// With the number of check definitions.
    Check,
    /// With the number of targets.
    Target,
}

impl Class {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Check => "check",
            Self::Target => "target",
        }
    }
}

/// One family of series.
#[derive(Debug)]
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// How the number of series grows.
    pub class: Class,
    /// The labels, without `le`.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident = $name:literal $kind:ident $class:ident [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                class: Class::$class,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// Every family, in the order of the documentation.
        pub const ALL: &[&Family] = &[$(&$id),+];
    };
}

families! {
    PROBES = "rollcall_probes_total" Counter Target ["check", "service_name", "protocol", "target"]
        "Probes that found something out of their target; those that were inconclusive are not among them.";
    PROBE_FAILURES = "rollcall_probe_failures_total" Counter Target ["check", "service_name", "protocol", "target"]
        "Probes that failed; an answer that says it is struggling (HTTP 429) is none.";
    PROBE_FAILURES_BY_REASON = "rollcall_probe_failures_by_reason_total" Counter Check ["check", "service_name", "protocol", "reason"]
        "Failed probes of a check over all its targets, by reason.";
    PROBE_INCONCLUSIVE = "rollcall_probe_inconclusive_total" Counter Check ["check", "service_name", "protocol", "reason"]
        "Probes of a check over all its targets that say nothing of them, by reason: failed by our own fault, or while the daemon was held up or abstained. Neither successes nor failures; reasons other than internal show when they first occur.";
    PROBE_DURATION = "rollcall_probe_duration_seconds" Histogram Check ["check", "service_name", "protocol"]
        "Time from the start of a probe to its verdict, failures included.";
    PROBE_PHASES = "rollcall_probe_phase_seconds_total" Counter Check ["check", "service_name", "protocol", "phase"]
        "Time spent in each phase of the probes of a check.";
    PROBE_HTTP_RESPONSES = "rollcall_probe_http_responses_total" Counter Check ["check", "service_name", "protocol", "code"]
        "Answers to HTTP probes, by status code; codes beyond the first twenty distinct ones are counted as other.";
    PROBE_GRPC_RESPONSES = "rollcall_probe_grpc_responses_total" Counter Check ["check", "service_name", "protocol", "serving_status"]
        "Answers to gRPC probes, by serving status.";
    TARGET_HEALTHY = "rollcall_target_healthy" Gauge Target ["check", "service_name", "protocol", "target"]
        "Whether the observed status is passing or warning (1) or critical (0); absent while unknown or in maintenance.";
    TARGET_LAST_DURATION = "rollcall_target_last_probe_duration_seconds" Gauge Target ["check", "service_name", "protocol", "target"]
        "How long the last probe took.";
    TARGET_LAST_PROBE = "rollcall_target_last_probe_timestamp_seconds" Gauge Target ["check", "service_name", "protocol", "target"]
        "When the last probe started.";
    TARGET_LAST_CHANGE = "rollcall_target_last_state_change_timestamp_seconds" Gauge Target ["check", "service_name", "protocol", "target"]
        "When the status changed last.";
    TARGET_CHANGES = "rollcall_target_state_changes_total" Counter Target ["check", "service_name", "protocol", "target"]
        "Changes of status.";
    TARGET_CONSECUTIVE_FAILURES = "rollcall_target_consecutive_failures" Gauge Target ["check", "service_name", "protocol", "target"]
        "Failed probes in a row up to now.";
    TARGET_CERT_EXPIRY = "rollcall_target_cert_expiry_timestamp_seconds" Gauge Target ["check", "service_name", "protocol", "target"]
        "When the certificate the target presented expires, also if it was refused.";
    TARGET_CERT_CHAIN_EXPIRY = "rollcall_target_cert_chain_expiry_timestamp_seconds" Gauge Target ["check", "service_name", "protocol", "target"]
        "When the first certificate of the chain the target presented expires, also if it was refused.";
    TARGET_INFO = "rollcall_target_info" Gauge Target ["check", "service_name", "protocol", "target", "address"]
        "Always 1; carries the address and the configured metadata of a target.";
    TARGETS = "rollcall_targets" Gauge Check ["check", "service_name", "protocol", "state"]
        "Targets of a check by observed status.";
    CHECK_INTERVAL = "rollcall_check_interval_seconds" Gauge Check ["check", "service_name", "protocol"]
        "The interval configured.";
    CHECK_TIMEOUT = "rollcall_check_timeout_seconds" Gauge Check ["check", "service_name", "protocol"]
        "The timeout configured.";
    CHECK_SLO = "rollcall_check_slo_objective_ratio" Gauge Check ["check", "service_name"]
        "The share of probes that should succeed.";

    SCHEDULER_LAG = "rollcall_scheduler_lag_seconds" Histogram Process []
        "How late probes started.";
    SCHEDULER_SKIPPED = "rollcall_scheduler_skipped_runs_total" Counter Process ["reason"]
        "Runs that did not start: the one before was still under way (overrun), too many were under way in all (saturated) or to the host (destination), their time had passed (late), or the daemon was stopping (shutdown).";
    EXTRA_PROBES = "rollcall_scheduler_extra_probes_total" Counter Process ["reason"]
        "Probes beyond the schedule: to confirm a failure (confirm), because the target asked for it (asked), because an idle connection to it was closed or it told of a change by itself (tripwire), or because an operator did (operator).";
    TRIPWIRES = "rollcall_tripwires" Gauge Process []
        "Idle connections held to targets, to hear at once when a process dies.";
    TRIPWIRE_CUTS = "rollcall_tripwire_cuts_total" Counter Process ["result"]
        "Such connections that targets have ended, by what was found when they were asked: well, or failed.";
    DETECTION = "rollcall_detection_seconds" Histogram Process ["stage"]
        "From the last sign of a target to the word that it is critical, as observed here (observed) and as consumers are told (published). The last sign is its last success, or the moment that it ended an idle connection, if that is later: of a process that dies with its connection held this is how long detection took, and otherwise the longest that it can have taken.";
    SCHEDULER_QUEUE = "rollcall_scheduler_queue_length" Gauge Process []
        "Checks that wait for their next run.";
    PROBES_IN_FLIGHT = "rollcall_probes_in_flight" Gauge Process ["protocol"]
        "Probes under way.";
    PROBES_IN_FLIGHT_LIMIT = "rollcall_probes_in_flight_limit" Gauge Process ["protocol"]
        "Most probes that may be under way at once; one limit for all protocols together (any).";
    PROBE_PANICS = "rollcall_probe_panics_total" Counter Process []
        "Probes ended by a fault of our own; they say nothing of the target.";
    LOCAL_HEALTH_SCORE = "rollcall_local_health_score" Gauge Process []
        "How unwell the daemon finds itself, from 0, well, to 8.";
    ABSTAINING = "rollcall_abstaining" Gauge Process []
        "Whether failures count for nothing (1) because the daemon does not trust itself or its network.";
    SELF_SYMPTOMS = "rollcall_self_symptom" Gauge Process ["symptom"]
        "Whether this is wrong with the daemon itself now (1).";
    PROBE_FAILURES_VOID = "rollcall_probe_failures_void_total" Counter Process ["cause"]
        "Failures that counted for nothing: the daemon was held up while the probe was under way (stalled), or it abstained (abstaining).";
    CANARY_DURATION = "rollcall_canary_duration_seconds" Histogram Process []
        "Time of the probes by which the daemon asks itself, of those that succeeded.";
    CANARY_FAILURES = "rollcall_canary_failures_total" Counter Process []
        "Probes of the daemon itself that failed: it is out of descriptors, ports or the like.";
    ANCHORS = "rollcall_anchors" Gauge Process ["state"]
        "Anchors, which are known to be well, by whether they answer.";
    EVENTS = "rollcall_transitions_total" Counter Process ["from", "to"]
        "Changes of status over all checks.";

    DISCOVERY_REFRESHES = "rollcall_discovery_refreshes_total" Counter Process ["source", "result"]
        "Readings of a source of instances.";
    DISCOVERY_LAST_SUCCESS = "rollcall_discovery_last_success_timestamp_seconds" Gauge Process ["source"]
        "When a source of instances was read last without a fault.";
    REGISTRATIONS = "rollcall_registrations_total" Counter Process ["action"]
        "Instances registered, deregistered, deregistered after being critical for too long (expire), and brought back from that (restore).";
    DEREGISTRATIONS_HELD = "rollcall_deregistrations_held" Gauge Process []
        "Instances critical for so long that they would be deregistered, held back because too much of their service is critical at once.";
    PUBLISHED_HELD = "rollcall_published_held" Gauge Process ["by"]
        "Checks of which consumers are told otherwise than is observed: critical ones that the guard holds as they were (guard), and well ones that are kept critical because they come and go (damping).";
    GUARD_ACTIVE = "rollcall_guard_active" Gauge Process []
        "Whether the guard against mass removal holds anything; deregistrations pause meanwhile.";
    GUARD_HOLDS = "rollcall_guard_holds_total" Counter Process ["limit"]
        "Failures held by the guard, by the limit that was reached: too many of all instances, of the service or of the zone, or the daemon in doubt of itself.";
    CHECKS_FLAPPING = "rollcall_checks_flapping" Gauge Process []
        "Checks that come and go.";
    CHECKS_STALE = "rollcall_checks_stale" Gauge Process []
        "Checks whose last result is too old to be relied on: older than three intervals and a timeout.";
    REGISTRATION_CONFLICTS = "rollcall_registration_conflicts_total" Counter Process []
        "Registrations over another owner's instance of the same id, taken or refused.";
    CONFIG_RELOAD_SUCCESSFUL = "rollcall_config_last_reload_successful" Gauge Process []
        "Whether the configuration was taken over the last time it was read, and what it changes is on disk.";
    CONFIG_RELOAD_TIME = "rollcall_config_last_reload_success_timestamp_seconds" Gauge Process []
        "When the configuration was taken over last.";
    STATE_SAVES = "rollcall_state_saves_total" Counter Process ["result"]
        "Times the state of all checks was written to the data directory.";

    REGISTRY_INDEX = "rollcall_registry_index" Gauge Process []
        "The number of the last change of the registry, which `X-Consul-Index` counts in.";
    REGISTRY_ROWS = "rollcall_registry_rows" Gauge Process ["kind"]
        "Nodes, instances of services, checks, keys and sessions in the registry; our own node, its service and its check are among them.";
    REGISTRY_CHANGES = "rollcall_registry_changes_total" Counter Process []
        "Changes of the registry put on disk, among them those that no client sees.";
    REGISTRY_COMMIT_DURATION = "rollcall_registry_commit_duration_seconds" Histogram Process []
        "Time to put changes on disk, many with one write and one sync.";
    REGISTRY_COMMIT_FAILURES = "rollcall_registry_commit_failures_total" Counter Process []
        "Times changes could not be put on disk; they were taken back, and who made them was told so.";
    REGISTRY_LOG_BYTES = "rollcall_registry_log_bytes" Gauge Process []
        "Bytes of changes after the last snapshot, which a start would read; as of the last commit.";
    REGISTRY_SNAPSHOTS = "rollcall_registry_snapshots_total" Counter Process ["result"]
        "Snapshots of the registry, which make older segments of the log superfluous.";
    SESSIONS_EXPIRED = "rollcall_sessions_expired_total" Counter Process []
        "Sessions ended because they were not renewed.";
    HEARTBEATS = "rollcall_heartbeats_total" Counter Process []
        "Results of TTL checks taken in.";
    HEARTBEATS_MISSED = "rollcall_heartbeats_missed_total" Counter Process []
        "Times a TTL check was not heard of in time.";

    BLOCKING_QUERIES = "rollcall_blocking_queries" Gauge Process []
        "Requests held until what they ask for changes.";
    BLOCKING_QUERIES_LIMIT = "rollcall_blocking_queries_limit" Gauge Process []
        "Most requests that may be held at once.";
    BLOCKING_QUERIES_REFUSED = "rollcall_blocking_queries_refused_total" Counter Process ["limit"]
        "Requests not held because as many were held as may be: of all clients together (all), or of one address (client).";

    HTTP_REQUESTS = "rollcall_http_requests_total" Counter Process ["handler", "method", "code"]
        "Requests answered by the HTTP API, by route.";
    HTTP_DURATION = "rollcall_http_request_duration_seconds" Histogram Process ["handler"]
        "Time to the head of the answer of the HTTP API, by route.";

    DNS_REQUESTS = "rollcall_dns_requests_total" Counter Process ["query_type", "rcode", "transport"]
        "DNS queries answered, by the type asked for, the code of the answer, and udp or tcp.";
    DNS_DURATION = "rollcall_dns_request_duration_seconds" Histogram Process ["transport"]
        "Time from a DNS query to its answer, without the network.";

    SERIES = "rollcall_series" Gauge Process ["metric"]
        "Series shown in this answer, by family; only families that grow with checks or targets.";
    SERIES_DROPPED = "rollcall_series_dropped_total" Counter Process ["metric"]
        "Series left out of an answer because a family had reached the configured limit.";
    BUILD_INFO = "rollcall_build_info" Gauge Process ["version", "revision", "rustversion"]
        "Always 1; says what is running.";

    PROCESS_CPU = "process_cpu_seconds_total" Counter Process []
        "CPU time used by this process, user and system.";
    PROCESS_RESIDENT = "process_resident_memory_bytes" Gauge Process []
        "Memory of this process in RAM.";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes" Gauge Process []
        "Address space of this process.";
    PROCESS_FDS = "process_open_fds" Gauge Process []
        "File descriptors open.";
    PROCESS_MAX_FDS = "process_max_fds" Gauge Process []
        "File descriptors that may be open.";
    PROCESS_START = "process_start_time_seconds" Gauge Process []
        "When this process started.";
    PROCESS_THREADS = "process_threads" Gauge Process []
        "Threads of this process.";
}

/// The table as Markdown, for `docs/metrics.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         All families of `/metrics`. *Series* says what the number of series grows with. This file \
         is rendered from `src/metrics/catalogue.rs`.\n\n\
         | Metric | Type | Labels | Series | Meaning |\n|---|---|---|---|---|\n",
    );
    for family in ALL {
        let labels = family.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(" ");
        writeln!(
            out,
            "| `{}` | {} | {labels} | {} | {} |",
            family.name,
            family.kind.as_str(),
            family.class.as_str(),
            family.help
        )
        .expect("a String takes all that is written to it");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels Prometheus attaches to targets; a series that carries one is renamed on scrape.
    const RESERVED: &[&str] = &[
        "job",
        "instance",
        "service",
        "namespace",
        "pod",
        "container",
        "endpoint",
        "node",
        "le",
        "quantile",
        "region",
        "zone",
        "cluster",
        "env",
        "environment",
        "type",
        "dc",
        "owner",
    ];

    #[test]
    fn names_follow_the_rules_of_promlint() {
        for family in ALL {
            let counter = family.kind == Kind::Counter;
            assert_eq!(counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
            assert!(
                family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn no_label_collides_with_a_target_label() {
        for family in ALL {
            for label in family.labels {
                assert!(!RESERVED.contains(label), "{} has label {label}", family.name);
            }
        }
    }

    #[test]
    fn histograms_never_carry_the_target() {
        for family in ALL.iter().filter(|family| family.kind == Kind::Histogram) {
            assert!(!family.labels.contains(&"target"), "{}", family.name);
        }
    }
}
