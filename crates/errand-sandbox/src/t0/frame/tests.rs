use super::*;

fn bytes_of(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn replies() -> Vec<Reply<'static>> {
    let ended = Ended { how: How::OutOfMemory, code: -3, stdout_bytes: u64::MAX, stderr_bytes: 7, cpu_us: 1 };
    vec![
        Reply::Ready { version: VERSION, walls: 7 },
        Reply::Output(Stream::Stdout, b"\0\xff out"),
        Reply::Output(Stream::Stderr, b""),
        Reply::Value("[1, 2]"),
        Reply::Ended(ended),
        Reply::Ended(Ended { how: How::OutOfTime, ..ended }),
    ]
}

#[test]
fn what_is_written_is_read_and_a_part_of_it_is_not_yet_anything() {
    for wanted in replies() {
        let bytes = bytes_of(|out| wanted.write(out));
        assert_eq!(reply(&bytes), Ok(Some((wanted.clone(), bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(reply(&bytes[..end]), Ok(None), "{wanted:?} cut at {end}");
        }
    }
    let requests =
        [Request::Start { memory_bytes: 1 << 40, output_bytes: 0 }, Request::Run { wall_ms: 5, code: "print('ä\0')" }];
    for wanted in requests {
        let mut bytes = bytes_of(|out| wanted.write(out));
        let length = bytes.len();
        bytes.extend(b"what follows");
        assert_eq!(request(&bytes), Ok(Some((wanted, length))));
    }
}

#[test]
fn lengths_are_refused_before_anything_is_kept_for_them() {
    for kind in 0..=u8::MAX {
        let header = [kind, 0xff, 0xff, 0xff, 0xff];
        assert!(reply(&header).is_err() && request(&header).is_err(), "kind {kind}");
    }
    assert_eq!(reply(&[STDOUT, 1, 0x80, 0, 0]), Err(BadFrame("a frame too long")), "a byte more than a piece may have");
    assert_eq!(reply(&[STDOUT, 0, 0x80, 0, 0]), Ok(None));
}

#[test]
fn frames_that_are_nearly_right_are_refused() {
    let cases: [(&[u8], &str); 6] = [
        (&[0, 0, 0, 0, 0], "a frame of no known kind"),
        (&[READY, 4, 0, 0, 0, 1, 0, 0, 0], "a frame too short"),
        (&[VALUE, 1, 0, 0, 0, 0xff], "text that is no UTF-8"),
        (&[ENDED, 1, 0, 0, 0, 9], "an end of no known kind"),
        (&[ENDED, 0, 0, 0, 0], "a frame too short"),
        // A request is no reply.
        (&[START, 0, 0, 0, 0], "a frame of no known kind"),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(reply(bytes), Err(BadFrame(wanted)), "{bytes:?}");
    }
    let longer = [&[START, 16, 0, 0, 0][..], &[0; 16]].concat();
    assert!(matches!(request(&longer), Ok(Some((Request::Start { .. }, 21)))));
    assert_eq!(request(&[START, 17, 0, 0, 0]), Err(BadFrame("a frame too long")));
    assert_eq!(request(&[RUN, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(BadFrame("a frame too short")));
}

/// Any bytes at all give an answer, and what is taken for a frame lies within them.
#[test]
fn any_bytes_are_answered() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let kinds = [START, RUN, READY, STDOUT, STDERR, VALUE, ENDED];
    let mut whole = 0;
    for _ in 0..200_000 {
        let length = usize::try_from(random() % 64).unwrap();
        let mut bytes: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        // Half of them begin like frames, so that more than the header is reached.
        if length > HEADER_BYTES && random() % 2 == 0 {
            bytes[0] = kinds[usize::try_from(random()).unwrap_or(0) % kinds.len()];
            bytes[1..5].copy_from_slice(&u32::try_from(random() % 48).unwrap().to_le_bytes());
        }
        let used = [
            request(&bytes).map(|found| found.map(|(_, used)| used)),
            reply(&bytes).map(|found| found.map(|(_, used)| used)),
        ];
        for used in used.into_iter().flatten().flatten() {
            assert!((HEADER_BYTES..=bytes.len()).contains(&used));
            whole += 1;
        }
    }
    assert!(whole > 1000, "the search reaches no frames: {whole}");
}

#[test]
fn fuzz_frames_of_workers() {
    let seeds = replies().iter().map(|one| bytes_of(|out| one.write(out))).collect();
    crate::fuzz::fuzz_bytes("frames of workers", seeds, |mut bytes| {
        while let Ok(Some((said, length))) = reply(bytes) {
            proptest::prop_assert!(length >= HEADER_BYTES && length <= bytes.len(), "{length} of {}", bytes.len());
            // What was read is what would be written for it.
            proptest::prop_assert_eq!(&bytes_of(|out| said.write(out))[..], &bytes[..length]);
            bytes = &bytes[length..];
        }
        Ok(())
    });
}
