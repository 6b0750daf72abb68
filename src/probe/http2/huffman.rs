//! The Huffman code of HPACK (RFC 7541, appendix B), decoded.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols,
//! and begin where those of the next shorter length ended. So the lengths and the order of the symbols
//! are all there is to know.

/// How many symbols there are of each length in bits.
const LENGTHS: [(u32, usize); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 3),
];

/// The symbols, the shortest first. After the last comes the end of string, which must not occur.
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57,
    61, 65, 95, 98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71,
    72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119,
    120, 121, 122, 38, 42, 44, 59, 88, 90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91,
    93, 126, 94, 125, 60, 96, 123, 92, 195, 208, 128, 130, 131, 162, 184, 194, 224, 226, 153, 161,
    167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129, 132, 133, 134, 136, 146, 154, 156,
    160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233, 1,
    135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174,
    175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206, 215, 225,
    236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252,
    253, 254, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 127, 220, 249, 10, 13, 22,
];

/// Decodes to the end of `out`; nothing if a code is not whole, or the padding is not that of the
/// standard.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // The bits that are left, and how many.
    let (mut bits, mut left) = (0_u64, 0);
    for byte in coded {
        bits = bits << 8 | u64::from(*byte);
        left += 8;
        loop {
            match next(bits, left) {
                Next::Symbol(symbol, length) => {
                    out.push(symbol);
                    left -= length;
                    bits &= (1 << left) - 1;
                }
                Next::More => break,
                Next::End => return None,
            }
        }
    }
    // Padding is the beginning of the end of string: ones, less than a byte.
    (left < 8 && bits == (1 << left) - 1).then_some(())
}

/// What bits begin with.
enum Next {
    /// A symbol, of so many bits.
    Symbol(u8, u32),
    /// They do not suffice.
    More,
    /// The end of string.
    End,
}

fn next(bits: u64, left: u32) -> Next {
    let (mut first, mut before, mut index) = (0_u64, 5, 0_usize);
    for (length, count) in LENGTHS {
        first <<= length - before;
        before = length;
        let Some(rest) = left.checked_sub(length) else { return Next::More };
        // Shorter codes have been ruled out.
        let place = usize::try_from((bits >> rest) - first).unwrap_or(usize::MAX);
        if place < count {
            return SYMBOLS.get(index + place).map_or(Next::End, |s| Next::Symbol(*s, length));
        }
        first += count as u64;
        index += count;
    }
    Next::End
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// The code of each symbol, with its length.
    fn code(symbol: u8) -> (u64, u32) {
        let place = SYMBOLS.iter().position(|other| *other == symbol).unwrap();
        let (mut first, mut before, mut index) = (0_u64, 5, 0);
        for (length, count) in LENGTHS {
            first <<= length - before;
            before = length;
            if place < index + count {
                return (first + (place - index) as u64, length);
            }
            first += count as u64;
            index += count;
        }
        unreachable!("every symbol has a code")
    }

    pub(in crate::probe) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let (code, length) = code(*byte);
            write!(bits, "{code:0width$b}", width = length as usize).unwrap();
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
        (0..bits.len()).step_by(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn examples_of_the_standard_are_decoded() {
        // RFC 7541, appendix C.4 and C.6.
        for (coded, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3", "https://www.example.com"),
        ] {
            assert_eq!(decoded(coded).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), coded);
        }
        // Appendix B: the codes of 0, of 255, and of the last symbol before the end of string.
        assert_eq!(
            (code(0), code(255), code(22)),
            ((0x1ff8, 13), (0x03ff_ffee, 26), (0x3fff_fffe, 30))
        );
    }

    #[test]
    fn what_is_no_code_is_refused() {
        assert_eq!(decoded(b"").unwrap(), b"");
        // The end of string; a byte of padding; padding that is not ones; a code cut short.
        for coded in [&b"\xff\xff\xff\xff"[..], b"\x64\x02\xff", b"\x00", b"\xff\xc0"] {
            assert_eq!(decoded(coded), None, "{coded:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_survives(text in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decoded(&encode(&text)).unwrap(), text);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(coded in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            // Whatever is accepted is the code of what it was decoded to.
            if decode(&coded, &mut out).is_some() {
                prop_assert_eq!(encode(&out), coded);
            }
        }
    }
}
