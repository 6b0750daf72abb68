//! What a Consul check asks, in our words.

use super::{Problem, Reader, Written};
use crate::probe::{Endpoint, Spec, parse_url};

/// The probe and the endpoint that a check with `http`, `tcp` or `grpc` asks, in this order of
/// preference, as in Consul.
pub(super) fn spec(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<(Spec, Endpoint)> {
    let check = written.check;
    let (key, url) = match (&check.http, &check.tcp, &check.grpc) {
        (Some(http), _, _) => ("http", http.clone()),
        (None, Some(tcp), _) if check.tcp_use_tls => ("tcp", format!("tls://{tcp}")),
        (None, Some(tcp), _) => ("tcp", format!("tcp://{tcp}")),
        (None, None, Some(grpc)) if check.grpc_use_tls => ("grpc", format!("grpcs://{grpc}")),
        (None, None, Some(grpc)) => ("grpc", format!("grpc://{grpc}")),
        (None, None, None) => return None,
    };
    match parse_url(&url) {
        Ok(found) => Some(found),
        Err(error) => {
            let problem = Problem::error(error.to_string());
            reader.report(problem.at(written.place(reader, key), "cannot be asked"));
            None
        }
    }
}
