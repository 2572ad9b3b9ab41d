use super::*;

/// What a closed attempt leaves: its bytes as they stand, and how many were cut.
async fn kept(outlet: &Outlet) -> (Vec<u8>, u64) {
    outlet.close();
    let (mut bytes, mut cut) = (vec![], 0);
    while let Some(batch) = outlet.next().await {
        for piece in &batch.pieces {
            cut += piece.cut;
            if piece.cut == 0 {
                bytes.extend_from_slice(&piece.bytes);
            }
        }
        outlet.settle(&batch);
    }
    (bytes, cut)
}

#[tokio::test]
async fn what_is_within_the_limit_is_kept_in_order() {
    let outlet = Outlet::new(100);
    let output = Output::new(outlet.clone(), 7, 1);
    let mut expected = vec![];
    for n in 0..10_u8 {
        let stream = if n % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
        output.write(stream, &[n; 10]);
        expected.extend_from_slice(&[n; 10]);
    }
    drop(output);
    assert_eq!(kept(&outlet).await, (expected, 0));
    assert_eq!(outlet.held(), 0);
}

#[tokio::test]
async fn the_middle_of_what_is_longer_is_cut_and_counted() {
    for size in [1, 7, 100, 16_384, 50_000, 1_000_000] {
        let all: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let outlet = Outlet::new(65_536);
        let output = Output::new(outlet.clone(), 7, 1);
        all.chunks(size).for_each(|part| output.write(Stream::Stdout, part));
        drop(output);
        let (bytes, cut) = kept(&outlet).await;
        assert_eq!((bytes.len(), cut), (65_536, 1_000_000 - 65_536), "pieces of {size}");
        assert!(bytes[..32_768] == all[..32_768] && bytes[32_768..] == all[1_000_000 - 32_768..], "pieces of {size}");
        assert_eq!(outlet.held(), 0);
    }
}

#[tokio::test]
async fn a_writer_that_is_stuck_costs_bounded_memory_and_every_byte_is_accounted_for() {
    let outlet = Outlet::new(1024 * 1024);
    let outputs: Vec<Output> = (0..40).map(|id| Output::new(outlet.clone(), id, 1)).collect();
    for _ in 0..20 {
        for output in &outputs {
            output.write(Stream::Stdout, &[b'x'; 100_000]);
        }
    }
    assert!(outlet.held() <= 8 * 1024 * 1024, "{}", outlet.held());
    drop(outputs);
    let (bytes, cut) = kept(&outlet).await;
    assert_eq!(bytes.len() as u64 + cut, 40 * 20 * 100_000);
    assert_eq!(outlet.held(), 0);
}
