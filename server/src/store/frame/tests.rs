//! Shows that batches and headers read back, and that every damage to them is noticed.

use super::*;

fn salt() -> Salt {
    SegmentHeader::first(7).salt()
}

fn sample() -> Vec<Txn> {
    let write = |oid, key: &'static [u8], record: Option<&'static [u8]>, merged| TxnWrite {
        cell: Cell { oid: Oid(oid), key: Bytes::from_static(key) },
        record: record.map(Bytes::from_static),
        merged,
    };
    vec![
        Txn {
            tid: Tid(5),
            key: CommitKey([1; 16]),
            digest: 77,
            own: true,
            note: Bytes::from_static(b"note"),
            writes: vec![write(1, b"", Some(b"record"), false), write(1, b"k", None, true)].into(),
        },
        Txn {
            tid: Tid(9),
            key: CommitKey([2; 16]),
            digest: 0,
            own: false,
            note: Bytes::new(),
            writes: vec![write(2, b"", Some(b""), true)].into(),
        },
    ]
}

fn encoded(txns: &[Txn]) -> (Vec<u8>, Vec<Option<RecordAt>>) {
    let (mut out, mut records) = (vec![1, 2, 3], Vec::new());
    let len = batch_len(txns).expect("fits");
    encode_batch(&mut out, (salt(), len), txns, &mut records);
    assert_eq!(out.len() as u64, len);
    (out, records)
}

#[test]
fn a_batch_parses_to_itself_and_its_records_lie_where_it_says() {
    let (out, records) = encoded(&sample());
    assert_eq!(out.len() as u64, batch_len(&sample()).expect("fits"));
    let header = BatchHeader::parse(&out).expect("header");
    let payload = Bytes::copy_from_slice(&out[BATCH_HEADER_LEN..]);
    assert!(header.fits(salt(), &payload));
    let parsed = parse_batch(LOG_FORMAT, &header, &payload).expect("parses");
    assert_eq!(parsed.iter().map(|parsed| parsed.txn.clone()).collect::<Vec<_>>(), sample());
    assert_eq!(parsed.iter().flat_map(|parsed| parsed.records.clone()).collect::<Vec<_>>(), records);
    for (at, write) in records.iter().zip(sample().iter().flat_map(|txn| &txn.writes)) {
        let bytes = at.map(|at| &out[at.offset as usize..(at.offset + at.len) as usize]);
        assert_eq!(bytes, write.record.as_deref());
        assert!(at.is_none_or(|at| at.crc == crc32fast::hash(bytes.expect("there"))));
    }
}

#[test]
fn a_batch_in_pieces_is_the_same_batch() {
    let (whole, at) = encoded(&sample());
    for piece_bytes in 1..whole.len() + 10 {
        let (mut out, mut records, mut pieces) = (vec![1, 2, 3], Vec::new(), vec![0xee; whole.len()]);
        let mut given = 0;
        let give = |at: u64, piece: &[u8]| {
            pieces[at as usize..][..piece.len()].copy_from_slice(piece);
            given += 1;
            Ok::<_, ()>(())
        };
        let encoding = (&mut out, piece_bytes);
        let rest = encode_in_pieces(encoding, (salt(), whole.len() as u64), &sample(), &mut records, give);
        match rest.expect("all are taken") {
            Rest::All => assert_eq!((given, &out), (0, &whole)),
            Rest::From(at, header) => {
                assert!(given > 0 && pieces[..BATCH_HEADER_LEN].iter().all(|byte| *byte == 0xee), "the header is last");
                pieces[at as usize..].copy_from_slice(&out);
                pieces[..BATCH_HEADER_LEN].copy_from_slice(&header);
                assert_eq!(pieces, whole, "{piece_bytes}");
            }
        }
        assert_eq!(records, at);
    }
}

#[test]
fn every_changed_bit_of_a_batch_is_noticed() {
    let (out, _) = encoded(&sample());
    for at in 0..out.len() * 8 {
        let mut bytes = out.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let good = BatchHeader::parse(&bytes).is_ok_and(|header| header.fits(salt(), &bytes[BATCH_HEADER_LEN..]));
        assert!(!good, "bit {at}");
    }
}

#[test]
fn a_batch_of_another_segment_or_store_does_not_fit() {
    let (out, _) = encoded(&sample());
    let header = BatchHeader::parse(&out).expect("header");
    let base = SegmentHeader::first(7);
    for other in [SegmentHeader { number: 2, ..base }, SegmentHeader { store_id: 8, ..base }] {
        assert!(!header.fits(other.salt(), &out[BATCH_HEADER_LEN..]));
    }
    assert!(header.fits(SegmentHeader { generation: 3, ..base }.salt(), &out[BATCH_HEADER_LEN..]));
}

#[test]
fn payloads_that_lie_about_their_lengths_are_refused_without_panic() {
    let (out, _) = encoded(&sample());
    let header = BatchHeader::parse(&out).expect("header");
    let payload = &out[BATCH_HEADER_LEN..];
    for cut in 0..payload.len() {
        assert!(parse_batch(LOG_FORMAT, &header, &Bytes::copy_from_slice(&payload[..cut])).is_err(), "{cut}");
    }
    for at in 0..payload.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = payload.to_vec();
            bytes[at] = value;
            // Whether it parses does not matter here, only that it returns and keeps its lengths.
            if let Ok(txns) = parse_batch(LOG_FORMAT, &header, &Bytes::from(bytes)) {
                assert_eq!(txns.len(), 2);
            }
        }
    }
    let huge = BatchHeader { txns: u32::MAX, ..header };
    assert!(parse_batch(LOG_FORMAT, &huge, &Bytes::copy_from_slice(payload)).is_err());
}

#[test]
fn segment_headers_read_back_and_every_changed_bit_is_noticed() {
    let header = SegmentHeader {
        format: LOG_FORMAT,
        number: 9,
        from: 5,
        generation: 4,
        store_id: !3,
        packed_to: Tid(77),
        base: Tid(99),
        timeline: 12,
        len_before: 34,
        len: 56,
    };
    let bytes = header.encode();
    assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
    for at in 0..SEGMENT_HEADER_LEN * 8 {
        let mut bad = bytes;
        bad[at / 8] ^= 1 << (at % 8);
        assert!(SegmentHeader::parse(&bad).is_err(), "bit {at}");
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

#[test]
fn format_1_bytes_are_read_as_they_were_written() {
    let bytes = bytes_of(
        "9a7a42b7 33000000 01000000 0900000000000000 0900000000000000 fbba2b47
         0900000000000000 02020202020202020202020202020202 00000000 01000000
         0200000000000000 0000 02 00000000 00000000",
    );
    let header = BatchHeader::parse(&bytes).expect("header");
    let payload = Bytes::copy_from_slice(&bytes[BATCH_HEADER_LEN..]);
    assert!(header.fits(salt(), &payload));
    let parsed = parse_batch(FORMAT_1, &header, &payload).expect("parses");
    assert_eq!(parsed.into_iter().map(|parsed| parsed.txn).collect::<Vec<_>>(), sample()[1..]);
    let mut header = SegmentHeader { format: FORMAT_1, ..SegmentHeader::first(7) }.encode();
    header[44..52].fill(0);
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::parse(&header), Ok(SegmentHeader { format: FORMAT_1, ..SegmentHeader::first(7) }));
}

#[test]
fn format_3_bytes_stay_as_they_are() {
    let (out, _) = encoded(&sample()[1..]);
    let expected = bytes_of(
        "9a7a42b7 3c000000 01000000 0900000000000000 0900000000000000 13ecdabc
         0900000000000000 02020202020202020202020202020202 0000000000000000 00 00000000 01000000
         0200000000000000 0000 02 00000000 00000000",
    );
    assert_eq!(out, expected);
    let numbers = SegmentHeader { number: 9, from: 5, generation: 2, ..SegmentHeader::first(7) };
    let header = SegmentHeader { timeline: 0x0102, base: Tid(3), ..numbers };
    let expected = bytes_of(
        "5a4c4f47 03000000 09000000 0200 0400 0700000000000000 0000000000000000 0300000000000000
         00000000 0201000000000000 0000000000000000 00000000",
    );
    assert_eq!(header.encode()[..60], expected[..60]);
    assert_eq!(SegmentHeader::parse(&header.encode()), Ok(header));
}

#[test]
fn format_2_headers_are_read_as_they_were_written_and_stand_for_one_number() {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    bytes.copy_from_slice(&bytes_of(
        "5a4c4f47 02000000 01000000 00000000 0700000000000000 0000000000000000 0300000000000000
         00000000 0201000000000000 0000000000000000 44821cab",
    ));
    let header = SegmentHeader { timeline: 0x0102, base: Tid(3), format: FORMAT_2, ..SegmentHeader::first(7) };
    assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
    for (format, number, before, word) in [(FORMAT_2, 9, 4, "65,535"), (LOG_FORMAT, 3, 3, "more segments")] {
        let mut header = SegmentHeader { format, number, from: number, ..SegmentHeader::first(7) }.encode();
        header[14] = before;
        let crc = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        let refused = SegmentHeader::parse(&header).expect_err("refused").what();
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn what_a_later_program_may_write_is_refused_by_name() {
    let with_flags = |flags: u32| {
        let mut header = SegmentHeader::first(7).encode();
        header[40..44].copy_from_slice(&flags.to_le_bytes());
        let crc = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        SegmentHeader::parse(&header).expect_err("refused").what()
    };
    assert!(with_flags(1).contains("is compressed,"), "{}", with_flags(1));
    assert!(with_flags(7).contains("is compressed and encrypted and flagged 0x4,"), "{}", with_flags(7));
    let (out, _) = encoded(&sample()[1..]);
    let header = BatchHeader::parse(&out).expect("header");
    for (flags, word) in [(2, "prepared"), (4, "finish mark"), (8, "unknown flags")] {
        let mut payload = out[BATCH_HEADER_LEN..].to_vec();
        payload[32] = flags;
        let refused = parse_batch(LOG_FORMAT, &header, &Bytes::from(payload)).expect_err("refused").what();
        assert!(refused.contains(word), "{refused}");
    }
}
