//! Who we are to a target that asks: a certificate and its key, from PEM files.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{PrepareError, Spec};

/// What the two files held.
#[derive(PartialEq)]
pub(super) struct Identity {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the files, if there are any.
    pub(super) fn read(spec: &Spec) -> Result<Option<Self>, PrepareError> {
        let (path, key_path) = match (&spec.cert_file, &spec.key_file) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return Ok(None),
            (Some(_), None) | (None, Some(_)) => return Err(PrepareError::Pair),
        };
        let certificates = certificates(path, &super::read_file(path)?)?;
        let key = PrivateKeyDer::from_pem_slice(&super::read_file(key_path)?)
            .map_err(|_| PrepareError::Key { path: key_path.clone() })?;
        Ok(Some(Self { path: path.clone(), certificates, key }))
    }

    /// The chain, our own certificate first.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// Why the two cannot be used.
    pub(super) fn refused(&self, source: rustls::Error) -> PrepareError {
        PrepareError::Identity { path: self.path.clone(), source }
    }
}

/// The certificates of a PEM file, of which there must be one at least.
pub(super) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, PrepareError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read
        .map_err(|error| PrepareError::Pem { path: path.to_owned(), problem: error.to_string() })?;
    if certificates.is_empty() {
        return Err(PrepareError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}
