//! Attempts as bytes.
//!
//! ```text
//! length · flags · outcome · start, 6 bytes · duration · phases · answer · address, 6 or 26 bytes
//! ```
//!
//! The flags say which phases and whether an address follow. Numbers have seven bits a byte, lowest
//! first, and the highest bit says that more follow. All of it is ours, never another's: what cannot
//! be read is passed over.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    metrics::slot::{decode_answer, decode_outcome, encode_answer, encode_outcome},
    model::{Observation, Phase, Phases},
};

/// The flags below are one for each phase.
const IPV4: u8 = 1 << Phase::COUNT;
const IPV6: u8 = 2 << Phase::COUNT;

/// Bytes of the start: milliseconds from the epoch until the year 6429.
const START: usize = 6;

/// Attempts, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed(Vec<u8>);

impl Packed {
    /// Puts an attempt down, and drops the oldest beyond `most`. Says how many are held.
    pub(super) fn push(&mut self, observation: &Observation, most: usize) -> usize {
        let mut held = self.lengths().count();
        while held >= most {
            let oldest = self.lengths().next().unwrap_or(0);
            self.0.drain(..oldest);
            held -= 1;
        }
        let mut bytes = Bytes::default();
        bytes.write(observation);
        let wanted = self.0.len() + usize::from(bytes.len);
        if wanted > self.0.capacity() {
            // So much as the allocator gives anyway: its blocks are 16 bytes apart, less 8.
            let room = (wanted + 8).next_multiple_of(16) - 8;
            self.0.reserve_exact(room - self.0.len());
        }
        self.0.extend_from_slice(&bytes.all[..usize::from(bytes.len)]);
        held + 1
    }

    /// All that are held.
    pub(super) fn read(&self) -> Vec<Observation> {
        let mut rest = &*self.0;
        let mut all = Vec::new();
        for length in self.lengths() {
            let (one, others) = rest.split_at(length);
            all.extend(Reading(&one[1..]).attempt());
            rest = others;
        }
        all
    }

    /// The lengths of the attempts.
    fn lengths(&self) -> impl Iterator<Item = usize> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let length = usize::from(*rest.first()?).max(1);
            rest = rest.get(length..)?;
            Some(length)
        })
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// An attempt in the making.
#[derive(Debug)]
struct Bytes {
    all: [u8; 80],
    len: u8,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { all: [0; 80], len: 0 }
    }
}

impl Bytes {
    fn write(&mut self, observation: &Observation) {
        let mut flags = 0;
        self.put(&[0, 0, encode_outcome(Some(observation.outcome))]);
        self.put(&observation.started.millis().to_le_bytes()[..START]);
        self.number(micros(observation.duration));
        for phase in Phase::ALL {
            let spent = micros(observation.phases.get(*phase));
            if spent > 0 {
                flags |= 1 << phase.index();
                self.number(spent);
            }
        }
        self.number(encode_answer(observation.answer));
        match observation.peer {
            Some(SocketAddr::V4(peer)) => {
                flags |= IPV4;
                self.put(&peer.ip().octets());
                self.put(&peer.port().to_le_bytes());
            }
            Some(SocketAddr::V6(peer)) => {
                flags |= IPV6;
                self.put(&peer.ip().octets());
                self.put(&peer.port().to_le_bytes());
                self.put(&peer.flowinfo().to_le_bytes());
                self.put(&peer.scope_id().to_le_bytes());
            }
            None => {}
        }
        self.all[0] = self.len;
        self.all[1] = flags;
    }

    fn put(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.all[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += u8::try_from(bytes.len()).unwrap_or(0);
    }

    fn number(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.put(&[low(number) | 0x80]);
            number >>= 7;
        }
        self.put(&[low(number)]);
    }
}

/// The lowest seven bits.
fn low(number: u32) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// An attempt being read.
struct Reading<'a>(&'a [u8]);

impl Reading<'_> {
    fn attempt(mut self) -> Option<Observation> {
        let [flags, outcome] = self.take()?;
        let outcome = decode_outcome(outcome)?;
        let start: [u8; START] = self.take()?;
        let mut millis = [0; 8];
        millis[..START].copy_from_slice(&start);
        let started = Timestamp::from_millis(i64::from_le_bytes(millis));
        let duration = self.time()?;
        let mut phases = Phases::default();
        for phase in Phase::ALL {
            if flags & 1 << phase.index() != 0 {
                phases.add(*phase, self.time()?);
            }
        }
        let answer = decode_answer(self.number()?);
        let peer = match flags & (IPV4 | IPV6) {
            IPV4 => {
                let ip = Ipv4Addr::from(self.take::<4>()?);
                Some(SocketAddr::from((ip, u16::from_le_bytes(self.take()?))))
            }
            IPV6 => {
                let ip = Ipv6Addr::from(self.take::<16>()?);
                let port = u16::from_le_bytes(self.take()?);
                let flow = u32::from_le_bytes(self.take()?);
                Some(SocketAddrV6::new(ip, port, flow, u32::from_le_bytes(self.take()?)).into())
            }
            _ => None,
        };
        Some(Observation { phases, answer, peer, ..Observation::new(started, duration, outcome) })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.take()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn time(&mut self) -> Option<Duration> {
        Some(Duration::from_micros(u64::from(self.number()?)))
    }
}

/// A time in microseconds: up to 71 minutes, longer ones are held as that.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Answer, Outcome, Reason};

    fn any_attempt() -> impl Strategy<Value = Observation> {
        let peer = prop_oneof![
            Just(None),
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| Some(SocketAddr::from((ip, port)))),
            any::<([u8; 16], u16, u32, u32)>().prop_map(|(ip, port, flow, scope)| {
                Some(SocketAddrV6::new(ip.into(), port, flow, scope).into())
            }),
        ];
        let outcome = prop_oneof![
            Just(Outcome::Success),
            (0..Reason::COUNT).prop_map(|at| Outcome::Failure(Reason::ALL[at])),
        ];
        let times = any::<(u32, [u32; Phase::COUNT])>();
        let start = 0_i64..1 << 47;
        (start, times, outcome, any::<u16>(), peer).prop_map(
            |(start, times, outcome, code, peer)| {
                let mut phases = Phases::default();
                for (phase, micros) in Phase::ALL.iter().zip(times.1) {
                    phases.add(*phase, Duration::from_micros(micros.into()));
                }
                let (start, took) =
                    (Timestamp::from_millis(start), Duration::from_micros(times.0.into()));
                let answer = if code == 0 { Answer::None } else { Answer::Http(code) };
                Observation { phases, answer, peer, ..Observation::new(start, took, outcome) }
            },
        )
    }

    proptest! {
        #[test]
        fn the_last_read_back_as_they_were(
            all in prop::collection::vec(any_attempt(), 1..12),
            most in 1_usize..8,
        ) {
            let mut packed = Packed::default();
            for (index, attempt) in all.iter().enumerate() {
                prop_assert_eq!(packed.push(attempt, most), most.min(index + 1));
            }
            let last = &all[all.len().saturating_sub(most)..];
            prop_assert_eq!(packed.read(), last);
        }
    }

    #[test]
    fn the_largest_attempt_fits() {
        let mut phases = Phases::default();
        for phase in Phase::ALL {
            phases.add(*phase, Duration::MAX / 8);
        }
        let largest = Observation {
            phases,
            answer: Answer::Http(u16::MAX),
            peer: Some(SocketAddrV6::new([255; 16].into(), u16::MAX, u32::MAX, u32::MAX).into()),
            ..Observation::new(Timestamp::from_millis(1), Duration::MAX, Outcome::Success)
        };
        let mut packed = Packed::default();
        packed.push(&largest, 1);
        let longest = Duration::from_micros(u32::MAX.into());
        assert_eq!(packed.read()[0].duration, longest);
        assert_eq!(packed.read()[0].phases.get(Phase::Tls), longest);
    }
}
