//! HPACK: the standard's examples, and blocks that break it.

use proptest::prelude::*;

use super::{super::huffman::tests::encode, *};

const LIMIT: usize = 16_384;

type List = Vec<(String, String)>;

fn decode(decoder: &mut Decoder, block: &[u8], limit: usize) -> Result<List, Error> {
    let mut list = Vec::new();
    let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    decoder.decode(block, limit, |name, value| list.push((shown(name), shown(value))))?;
    Ok(list)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_ascii_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[track_caller]
fn check(decoder: &mut Decoder, block: &str, expected: &[(&str, &str)], size: usize) {
    let list = decode(decoder, &hex(block), LIMIT).unwrap();
    let list: Vec<_> = list.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(list, expected);
    assert_eq!(decoder.size, size);
}

/// RFC 7541, appendix C.6: three answers with Huffman codes, and a table of 256 bytes, from which
/// entries are evicted.
#[test]
fn answers_of_the_standard_are_decoded() {
    let decoder = &mut Decoder::default();
    decoder.resize(256);
    let first = [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    check(
        decoder,
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        &first,
        222,
    );
    let mut second = first;
    second[0].1 = "307";
    check(decoder, "4883 640e ffc1 c0bf", &second, 222);
    check(
        decoder,
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        &[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            ("location", "https://www.example.com"),
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ],
        215,
    );
}

/// Appendix C.2 and C.3: literals of all kinds, and a request.
#[test]
fn literals_of_the_standard_are_decoded() {
    let custom = [("custom-key", "custom-header")];
    let literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut Decoder::default(), literal, &custom, 55);
    check(
        &mut Decoder::default(),
        "040c 2f73 616d 706c 652f 7061 7468",
        &[(":path", "/sample/path")],
        0,
    );
    let secret = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    check(&mut Decoder::default(), secret, &[("password", "secret")], 0);
    let request = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let decoder = &mut Decoder::default();
    check(decoder, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &request, 57);
    check(decoder, "be", &request[3..], 57);
}

#[test]
fn what_breaks_the_standard_is_refused() {
    let error = |block: &str| decode(&mut Decoder::default(), &hex(block), LIMIT).unwrap_err();
    assert_eq!(error("80"), Error::Index);
    assert_eq!(error("be"), Error::Index);
    assert_eq!(error("ff 00"), Error::Index);
    assert_eq!(error("7f 00"), Error::Index);
    assert_eq!(error("ff"), Error::Short);
    assert_eq!(error("40"), Error::Short);
    assert_eq!(error("40 01"), Error::Short);
    assert_eq!(error("40 01 61"), Error::Short);
    assert_eq!(error("ff ff ff ff 00"), Error::Number);
    assert_eq!(error("ff 80 80 80 80 80 00"), Error::Number);
    assert_eq!(error("08 81 00"), Error::Huffman);
    // A table of 4097 bytes; a change after a header.
    assert_eq!(error("3f e2 1f"), Error::Table);
    assert_eq!(error("88 20"), Error::Table);
    assert_eq!(decode(&mut Decoder::default(), &hex("20 3f e1 1f 88"), LIMIT).unwrap().len(), 1);
}

#[test]
fn a_list_is_bounded_however_small_it_came() {
    let mut decoder = Decoder::default();
    // One header of 100 + 32 bytes, and the same again by its index.
    let mut block = Vec::new();
    block.push(0x40);
    write_string(&mut block, b"a");
    write_string(&mut block, &[b'x'; 99]);
    block.extend([0xbe; 200]);
    assert_eq!(decode(&mut decoder, &block, 132 * 201).unwrap().len(), 201);
    let short = 132 * 201 - 1;
    assert_eq!(decode(&mut Decoder::default(), &block, short), Err(Error::Long(short)));
    let mut long = vec![0];
    write_string(&mut long, b"a");
    write_string(&mut long, &[b'x'; 1000]);
    assert_eq!(decode(&mut decoder, &long, 100), Err(Error::Long(100)));
}

#[test]
fn the_table_is_bounded_and_the_oldest_goes() {
    let mut decoder = Decoder::default();
    let mut block = Vec::new();
    for n in 0..1000 {
        block.push(0x40);
        write_string(&mut block, format!("name-{n}").as_bytes());
        write_string(&mut block, b"");
    }
    decode(&mut decoder, &block, 1 << 20).unwrap();
    assert!(decoder.size <= MAX_TABLE && decoder.entries.len() == 102, "{}", decoder.entries.len());
    assert_eq!(decode(&mut decoder, &[0xbe], LIMIT).unwrap()[0].0, "name-999");
    // One that is larger than the table empties it, and is not kept.
    let mut block = vec![0x40];
    write_string(&mut block, b"a");
    write_string(&mut block, &[b'x'; MAX_TABLE]);
    decode(&mut decoder, &block, LIMIT).unwrap();
    assert_eq!((decoder.size, decoder.entries.len()), (0, 0));
    decode(&mut decoder, &hex("20"), LIMIT).unwrap();
    decode(&mut decoder, &hex("4001 6101 62"), LIMIT).unwrap();
    assert_eq!((decoder.size, decoder.entries.len()), (0, 0));
}

#[test]
fn what_is_written_is_read_again() {
    let mut block = Vec::new();
    write_known(&mut block, ":method", "POST");
    assert_eq!(block, [0x83]);
    write_known(&mut block, ":path", "/x");
    write_header(&mut block, "te", "trailers", Secrecy::Open);
    write_header(&mut block, "authorization", &"s".repeat(300), Secrecy::Secret);
    let list = decode(&mut Decoder::default(), &block, LIMIT).unwrap();
    let long = "s".repeat(300);
    let expected =
        [(":method", "POST"), (":path", "/x"), ("te", "trailers"), ("authorization", &long)];
    assert_eq!(list.len(), expected.len());
    for ((name, value), expected) in list.iter().zip(expected) {
        assert_eq!((name.as_str(), value.as_str()), expected);
    }
}

proptest! {
    #[test]
    fn texts_survive(
        name in "[a-z-]{1,20}",
        value in prop::collection::vec(any::<u8>(), 0..200),
        is_coded in any::<bool>(),
    ) {
        let mut block = vec![0x40];
        write_string(&mut block, name.as_bytes());
        if is_coded {
            let coded = encode(&value);
            write_number(&mut block, 0x80, 7, coded.len());
            block.extend(coded);
        } else {
            write_string(&mut block, &value);
        }
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        decoder.decode(&block, LIMIT, |n, v| seen.push((n.to_vec(), v.to_vec()))).unwrap();
        decoder.decode(&[0xbe], LIMIT, |n, v| seen.push((n.to_vec(), v.to_vec()))).unwrap();
        let expected = (name.into_bytes(), value);
        prop_assert_eq!(seen, [expected.clone(), expected]);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
    ) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let mut size = 0;
            let ended = decoder.decode(&block, 1000, |n, v| size += n.len() + v.len() + OVERHEAD);
            prop_assert!(size <= 1000);
            prop_assert!(decoder.size <= decoder.most && decoder.most <= MAX_TABLE);
            let sum: usize = decoder.entries.iter().map(Entry::size).sum();
            prop_assert_eq!(sum, decoder.size);
            if ended.is_err() {
                break;
            }
        }
    }
}
