//! A scrape as an answer: as it is, or packed by gzip while it is sent, for whoever takes that.
//!
//! Prometheus always does. Level 1 makes a tenth of it, and takes a few times what writing it
//! took; higher levels take ten times that for a third less, which no network is worth.

use std::{convert::Infallible, io::Write as _, sync::Arc};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};

use super::Scrape;
use crate::{api::View, metrics::text};

/// Packed text is passed on once it is as long as this.
const PACKED_CHUNK: usize = 16 * 1024;

/// Why packing is not checked.
const INFALLIBLE: &str = "a Vec takes all that is written to it";

/// Answers whoever asks with these headers.
pub(in crate::api) fn answer(view: &View, headers: &HeaderMap) -> Response {
    let View { registry, store, metrics, metrics_config, .. } = view;
    let scrape = Scrape::new(registry, Arc::clone(store), metrics.clone(), metrics_config);
    let takes_gzip = takes_gzip(headers);
    let body = if takes_gzip { packed(scrape) } else { plain(scrape) };
    let mut response = body.into_response();
    let head = response.headers_mut();
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static(text::CONTENT_TYPE));
    head.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if takes_gzip {
        head.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The text, a chunk at a time; others get their turn in between.
fn plain(scrape: Scrape) -> Body {
    Body::from_stream(stream::unfold(scrape, async |mut scrape| {
        tokio::task::yield_now().await;
        let chunk = scrape.next_chunk()?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), scrape))
    }))
}

/// The same through gzip.
fn packed(scrape: Scrape) -> Body {
    let packing = Some(Packing {
        scrape,
        gzip: GzEncoder::new(Vec::with_capacity(2 * PACKED_CHUNK), Compression::fast()),
    });
    Body::from_stream(stream::unfold(packing, async |packing| {
        let mut packing = packing?;
        loop {
            tokio::task::yield_now().await;
            if !packing.take_in() {
                let rest = packing.gzip.finish().expect(INFALLIBLE);
                return Some((Ok::<_, Infallible>(Bytes::from(rest)), None));
            }
            if packing.gzip.get_ref().len() >= PACKED_CHUNK {
                let fresh = Vec::with_capacity(2 * PACKED_CHUNK);
                let chunk = std::mem::replace(packing.gzip.get_mut(), fresh);
                return Some((Ok(Bytes::from(chunk)), Some(packing)));
            }
        }
    }))
}

struct Packing {
    scrape: Scrape,
    gzip: GzEncoder<Vec<u8>>,
}

impl Packing {
    /// Packs the next chunk. Says whether there was one.
    fn take_in(&mut self) -> bool {
        let written = self.scrape.refill();
        self.gzip.write_all(self.scrape.chunk().as_bytes()).expect(INFALLIBLE);
        written
    }
}

/// Whether gzip is named among what is taken, or all is, and it is not refused.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let mut any = false;
    let mut gzip = None;
    for coding in codings {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let is_wanted = !is_zero(parameters);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => gzip = Some(is_wanted),
            "*" => any = is_wanted,
            _ => {}
        }
    }
    gzip.unwrap_or(any)
}

/// Whether the weight is zero, which is to say "not this".
fn is_zero(parameters: &str) -> bool {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_if_it_is_named_or_all_is_and_it_is_not_refused() {
        for (value, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("br, *", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
            ("gzipped", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(takes_gzip(&headers), taken, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
