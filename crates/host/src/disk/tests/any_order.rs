use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_order_of_blocks_under_any_budget_gives_the_right_verdicts(
        steps in prop::collection::vec((0u32..5, 0u16..8, 1u16..4, 0u8..12), 1..80),
        budget in 0u64..20,
        workers in 1usize..3,
    ) {
        let block = BLOCK_LEN as usize;
        let fixture = Fixture::new(
            8 * BLOCK_LEN,
            &[("t/a", 11 * block + 77), ("t/.pad/1", 4 * block - 77), ("t/b", 21 * block + 1)],
        );
        let mut rig = Rig::with(fixture, workers, budget * u64::from(BLOCK_LEN));
        let layout = Arc::clone(&rig.fixture.content.layout);
        // What the first copy of each block was xored with.
        let mut given: BTreeMap<u32, BTreeMap<u16, u8>> = BTreeMap::new();
        let mut good = Vec::new();
        let mut jobs = Vec::new();
        for (piece, first, count, lie) in steps {
            let lie = lie / 11;
            let index = rig.index(piece);
            if good.contains(&piece) || layout.run(index, first, count).is_none() {
                continue;
            }
            jobs.push(rig.give(piece, first, count, lie));
            let blocks = given.entry(piece).or_default();
            for at in first..first + count {
                blocks.entry(at).or_insert(lie);
            }
            let is_whole = layout
                .blocks(index)
                .all(|block| layout.is_pad(block) || blocks.contains_key(&block.index()));
            if !is_whole {
                continue;
            }
            let liars = blocks.values().any(|&lie| lie > 0);
            given.remove(&piece);
            let finish = rig.finish(piece, false);
            match rig.result(finish) {
                DiskResult::Good { .. } => {
                    // Lies in padding that went through the file are gone.
                    good.push(piece);
                }
                DiskResult::Bad { block_digests, .. } => {
                    prop_assert!(liars);
                    prop_assert_eq!(block_digests.len(), usize::from(layout.blocks_in(index)));
                }
                DiskResult::Written { .. }
                | DiskResult::Forgotten { .. }
                | DiskResult::FileCompleted { .. }
                | DiskResult::Synced
                | DiskResult::ResumeSaved
                | DiskResult::ResumeRemoved
                | DiskResult::Failed { .. } => prop_assert!(false, "{:?}", rig.done[&finish]),
            }
        }
        for &piece in &good {
            let count = layout.blocks_in(rig.index(piece));
            prop_assert_eq!(&rig.read(piece, 0, count).unwrap()[..], rig.fixture.piece(piece));
        }
        for piece in 0..layout.pieces() {
            let piece = rig.index(piece);
            let forget = rig.submit(DiskOp::Forget { piece });
            rig.result(forget);
        }
        for job in jobs {
            rig.result(job);
        }
        prop_assert_eq!(rig.pool.out(), 0);
    }
}
