//! What is said of a probe, for people.

use super::{
    Kind, Target, exec,
    fault::{self, Fault},
    trace::Trace,
};
use crate::model::Answer;

impl Target {
    /// What is asked of whom, for people: `http://10.0.0.1:8080/healthz`, `10.0.0.1:6379`,
    /// `10.0.0.1:50051/shop.v1.Cart`, `/usr/lib/check_disk`.
    pub fn url(&self) -> String {
        match &self.probe.0 {
            Kind::Http(probe) => probe.spec().url(&self.endpoint),
            Kind::Tcp(_) | Kind::Udp(_) | Kind::H2ping(_) | Kind::Certificate(_) | Kind::Ttl(_) => {
                self.endpoint.to_string()
            }
            Kind::Grpc(probe) => probe.spec().url(&self.endpoint),
            Kind::Dns(probe) => probe.spec().url(&self.endpoint),
            Kind::Etcd(_) => self.endpoint.to_string(),
            Kind::Icmp(_) => self.endpoint.host.to_string(),
            Kind::Exec(probe) => probe.program(),
            Kind::Alias(alias) => alias.to_string(),
        }
    }

    /// What a success reads like, for people: `HTTP GET http://10.0.0.1/: 200 OK`, with what the
    /// target had to say if that is shown.
    pub fn success(&self, answer: Answer, said: Option<&str>) -> String {
        let is_consuls = self.probe.http().is_some_and(|spec| spec.form.is_consuls());
        if let Some(said) = said.filter(|_| !is_consuls) {
            return said.to_owned();
        }
        let url = self.url();
        match &self.probe.0 {
            Kind::Http(probe) => probe.spec().success(&url, answer, said.unwrap_or_default()),
            Kind::Tcp(probe) => probe.spec().success(&url),
            Kind::Grpc(_) => format!("gRPC check {url}: success"),
            Kind::Udp(_) => format!("UDP connect {url}: Success"),
            Kind::H2ping(_) => "HTTP2 ping was successful".to_owned(),
            Kind::Certificate(_) => format!("certificate {url}: success"),
            Kind::Dns(_) => format!("DNS query {url}: success"),
            Kind::Etcd(_) => format!("etcd cluster {url}: all members are well"),
            Kind::Icmp(_) => format!("ICMP ping {url}: success"),
            Kind::Exec(_) => format!("{url}: exit code 0"),
            Kind::Ttl(_) => String::new(),
            Kind::Alias(_) => "All checks passing.".to_owned(),
        }
    }

    /// What a success has to say besides, harmless to show: what a program wrote, and in Consul's form
    /// the body of an answer.
    pub(super) fn remark(&self, trace: &Trace) -> Option<Box<str>> {
        match &self.probe.0 {
            Kind::Exec(_) => exec::output(trace).map(Into::into),
            Kind::Http(probe) => probe.said(trace).filter(|said| !said.is_empty()).map(Into::into),
            Kind::Tcp(_)
            | Kind::Grpc(_)
            | Kind::Udp(_)
            | Kind::H2ping(_)
            | Kind::Certificate(_)
            | Kind::Etcd(_)
            | Kind::Icmp(_)
            | Kind::Dns(_)
            | Kind::Ttl(_)
            | Kind::Alias(_) => None,
        }
    }

    /// What was asked, and what is wrong with the answer; harmless to show.
    pub(super) fn detail(&self, fault: &Fault, trace: &Trace) -> Box<str> {
        let url = self.url();
        let text = match &self.probe.0 {
            Kind::Http(probe) => match probe.answered(&url, fault, trace) {
                Some(text) => return text.into(),
                None => format!("{} {url}: {}", probe.spec().method.as_str(), fault.detail),
            },
            Kind::Tcp(_) => format!("TCP {url}: {}", fault.detail),
            Kind::Grpc(probe) => probe.spec().form.grpc(&url, fault, trace.answer),
            Kind::Udp(_) => format!("UDP {url}: {}", fault.detail),
            Kind::H2ping(_) => format!("HTTP/2 ping {url}: {}", fault.detail),
            Kind::Certificate(_) => format!("certificate {url}: {}", fault.detail),
            Kind::Dns(_) => format!("DNS {url}: {}", fault.detail),
            Kind::Etcd(_) => format!("etcd {url}: {}", fault.detail),
            Kind::Icmp(_) => format!("ICMP {url}: {}", fault.detail),
            Kind::Exec(probe) => return probe.detail(fault, trace),
            Kind::Ttl(_) => format!("TTL {url}: {}", fault.detail),
            Kind::Alias(_) => format!("alias of {url}: {}", fault.detail),
        };
        let note = trace.ids.as_deref().map(|ids| format!("; trace {}", ids.trace()));
        let note = note.unwrap_or_default();
        (fault::printable(text.as_bytes(), fault::DETAIL_LEN - note.len()) + &note).into()
    }
}
