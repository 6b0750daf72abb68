//! Checks in their short form: a URL says how to ask, and whom.

use super::{
    Endpoint, Spec, certificate, dns, etcd, grpc, h2ping, http, icmp, tcp, udp,
    url::{self, UrlError},
};

/// The schemes [`parse_url`] knows, for people.
pub(super) const SCHEMES: &str =
    "http, https, tcp, tls, certificate, grpc, grpcs, udp, h2, h2c, dns, etcd, etcds or icmp";

/// Reads a check in its short form: `http://host:port/path`, `https://…`, `tcp://host:port`,
/// `tls://host:port`, `certificate://host:port`, `grpc://host:port/service`, `grpcs://…`, `udp://host:port`,
/// `h2://host:port`, `h2c://host:port`, `dns://server/name?type=A`, `etcd://host:port`,
/// `etcds://…`, `icmp://host`.
pub fn parse_url(text: &str) -> Result<(Spec, Endpoint), UrlError> {
    let url = url::parse(text)?;
    match url.scheme() {
        "http" | "https" => http::Spec::of_url(&url).map(|(spec, at)| (Spec::Http(spec), at)),
        "tcp" | "tls" => tcp::Spec::of_url(&url).map(|(spec, at)| (Spec::Tcp(spec), at)),
        "certificate" => {
            certificate::Spec::of_url(&url).map(|(spec, at)| (Spec::Certificate(spec), at))
        }
        "grpc" | "grpcs" => grpc::Spec::of_url(&url).map(|(spec, at)| (Spec::Grpc(spec), at)),
        "udp" => udp::Spec::of_url(&url).map(|(spec, at)| (Spec::Udp(spec), at)),
        "h2" | "h2c" => h2ping::Spec::of_url(&url).map(|(spec, at)| (Spec::H2ping(spec), at)),
        "dns" => dns::Spec::of_url(&url).map(|(spec, at)| (Spec::Dns(spec), at)),
        "etcd" | "etcds" => etcd::Spec::of_url(&url).map(|(spec, at)| (Spec::Etcd(spec), at)),
        "icmp" => icmp::Spec::of_url(&url).map(|(spec, at)| (Spec::Icmp(spec), at)),
        scheme => Err(UrlError::Scheme(scheme.to_owned())),
    }
}
