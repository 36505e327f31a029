use super::*;
use proptest::prelude::*;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("h{number:02}")).collect()
}

fn roll(serial: Vec<Share>, max_failures: Share, hosts: impl IntoIterator<Item = String>) -> Roll {
    Roll {
        name: "role on group".to_owned(),
        rolling: Rolling { serial, max_failures },
        hosts: hosts.into_iter().collect(),
    }
}

#[test]
fn one_placement_has_the_batches_that_it_names() {
    let hosts = names(10);
    let serial = vec![Share::Hosts(1), Share::Hosts(3), Share::Percent(50)];
    let turns = Turns::of(vec![roll(serial, Share::Hosts(0), hosts.clone())], &hosts);
    let sizes: Vec<usize> = turns.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 3, 5, 1]);
    assert_eq!(turns.order().cloned().collect::<Vec<_>>(), hosts);
}

#[test]
fn hosts_of_two_placements_wait_for_both() {
    let hosts = names(4);
    let one = roll(vec![Share::Hosts(1)], Share::Hosts(0), hosts[..2].to_vec());
    let two = roll(vec![Share::Hosts(2)], Share::Hosts(0), hosts[1..].to_vec());
    let turns = Turns::of(vec![one, two], &hosts);
    assert_eq!(
        turns.batches(),
        [vec!["h00".to_owned(), "h02".to_owned(), "h03".to_owned()], vec!["h01".to_owned()]]
    );
    // Others of its second placement are still at work.
    let ended = Ended::from(["h00", "h02"].map(|host| (host.to_owned(), End::Converged)));
    assert_eq!(turns.of_host("h01", &ended), Turn::Later);
}

#[test]
fn a_failure_beyond_the_limit_ends_the_turns_of_its_own_placement_only() {
    let hosts = names(4);
    let one = roll(vec![Share::Hosts(1)], Share::Hosts(0), hosts[..2].to_vec());
    let two = roll(vec![Share::Hosts(1)], Share::Hosts(1), hosts[2..].to_vec());
    let turns = Turns::of(vec![one, two], &hosts);
    let ended = Ended::from(["h00", "h02"].map(|host| (host.to_owned(), End::Failed)));
    assert_eq!(
        turns.of_host("h01", &ended),
        Turn::Never("1 of role on group failed, max_failures is 0".to_owned())
    );
    assert_eq!(turns.of_host("h03", &ended), Turn::Now);
}

fn share(least: u32) -> impl Strategy<Value = Share> {
    prop_oneof![(least..6).prop_map(Share::Hosts), (least..=100).prop_map(Share::Percent),]
}

fn layer() -> impl Strategy<Value = (Vec<Roll>, Vec<String>)> {
    let roll =
        (prop::collection::vec(share(1), 1..4), share(0), prop::collection::vec(any::<bool>(), 12));
    (0..12_usize, prop::collection::vec(roll, 0..4)).prop_map(|(count, rolls)| {
        let hosts = names(count);
        let rolls = rolls.into_iter().map(|(serial, failures, stands)| {
            let here = hosts.iter().zip(stands).filter(|(_, stands)| *stands);
            super::tests::roll(serial, failures, here.map(|(host, _)| host.clone()))
        });
        (rolls.collect(), hosts)
    })
}

proptest! {
    /// Every host has exactly one turn, in the given order within a batch.
    #[test]
    fn every_host_once((rolls, hosts) in layer()) {
        let turns = Turns::of(rolls, &hosts);
        let mut all: Vec<String> = turns.order().cloned().collect();
        for wave in &turns.waves {
            prop_assert!(wave.is_sorted(), "{wave:?}");
        }
        all.sort();
        prop_assert_eq!(all, hosts);
    }

    /// No batch has more of a placement's hosts than the placement says, and none of the first batch
    /// waits without a reason.
    #[test]
    fn no_batch_is_too_large((rolls, hosts) in layer()) {
        let turns = Turns::of(rolls.clone(), &hosts);
        for roll in &rolls {
            let mut index = 0;
            for wave in turns.batches() {
                let here = wave.iter().filter(|host| roll.hosts.contains(*host)).count();
                prop_assert!(here <= roll.rolling.batch(index, roll.hosts.len()));
                index += usize::from(here > 0);
            }
        }
        if let [only] = rolls.as_slice() {
            let sizes: Vec<usize> = turns.batches().iter().map(Vec::len).collect();
            let full = |(index, size): (usize, &usize)| {
                *size == only.rolling.batch(index, only.hosts.len()) || index + 1 == sizes.len()
            };
            prop_assert!(sizes.iter().enumerate().all(full), "{sizes:?}");
        }
    }

    /// Whatever fails, the layer ends: somebody may always begin until nobody is left, nobody begins
    /// before those before it have ended, and without failures everybody has a turn.
    #[test]
    fn the_layer_ends((rolls, hosts) in layer(), fails in prop::collection::vec(any::<bool>(), 12)) {
        let turns = Turns::of(rolls, &hosts);
        let mut ended = Ended::new();
        let mut left: Vec<(&String, bool)> = turns.order().zip(fails.iter().copied()).collect();
        let mut never = 0;
        while !left.is_empty() {
            let before = left.len();
            let now: Vec<(&String, bool)> = left.clone();
            left.retain(|(host, _)| turns.of_host(host, &ended) == Turn::Later);
            prop_assert!(left.len() < before, "nobody may begin");
            for (host, fails) in now.into_iter().filter(|one| !left.contains(one)) {
                let end = match (turns.of_host(host, &ended), fails) {
                    (Turn::Never(_), _) => End::NotStarted,
                    (_, true) => End::Failed,
                    (_, false) => End::Converged,
                };
                never += usize::from(end == End::NotStarted);
                ended.insert(host.clone(), end);
            }
        }
        if !fails.iter().any(|fails| *fails) {
            prop_assert_eq!(never, 0);
        }
    }
}
