//! What the certificates say that a target presents. Nothing here judges them, and nothing here is
//! believed: a certificate says what it likes until its signature is checked.

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    x509::X509Name,
};

use crate::{clock::Timestamp, model::Certificate, probe::fault::printable};

/// Most bytes of a name that are kept.
const NAME_LEN: usize = 128;

/// Reads a chain; nothing if its first certificate cannot be read. Certificates after the first that
/// cannot be read are passed over.
pub(super) fn of(
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(own).ok()?;
    let expiry = expiry(&parsed);
    let chain_expiry = others
        .iter()
        .filter_map(|other| X509Certificate::from_der(other).ok())
        .map(|(_, other)| self::expiry(&other))
        .fold(expiry, Timestamp::min);
    Some(Certificate {
        start: Timestamp::from_seconds(parsed.validity().not_before.timestamp()),
        expiry,
        chain_expiry,
        is_for_name: is_for_name(own, name),
        subject: text(parsed.subject()),
        issuer: text(parsed.issuer()),
    })
}

fn expiry(certificate: &X509Certificate<'_>) -> Timestamp {
    Timestamp::from_seconds(certificate.validity().not_after.timestamp())
}

fn is_for_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

fn text(name: &X509Name<'_>) -> Box<str> {
    printable(name.to_string().as_bytes(), NAME_LEN).into()
}
