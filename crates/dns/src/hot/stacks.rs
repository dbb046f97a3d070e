//! Stacks that choose among the targets of an answer as the real ones do: whom they call how often, of many answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::encoded::{TARGET_AT, WEIGHT_AT};
use super::*;
use crate::profile::Profile;
use crate::testing::{World, zone};
use crate::urn::SplitMix;

/// An SRV record as a stack reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    priority: u16,
    weight: u16,
    port: u16,
    /// The host, as the number at the end of its address.
    host: u8,
}

/// Kamailio without load balancing: by priority, then by falling weight, those alike as they came; the first.
fn kamailio(mut answer: Vec<Target>, _random: &mut SplitMix) -> u8 {
    answer.sort_by_key(|target| (target.priority, core::cmp::Reverse(target.weight)));
    answer[0].host
}

/// RFC 2782, "Weight": weights of 0 first, a number from 0 to the sum of all, the first whose running sum is not below it.
fn by_weight(mut answer: Vec<Target>, random: &mut SplitMix) -> u8 {
    answer.sort_by_key(|target| (target.priority, target.weight != 0));
    let best = answer[0].priority;
    answer.retain(|target| target.priority == best);
    let sum: u64 = answer.iter().map(|target| u64::from(target.weight)).sum();
    let point = random.below(sum + 1);
    let mut running = 0;
    let hit = answer.iter().find(|target| {
        running += u64::from(target.weight);
        running >= point
    });
    hit.expect("the last one's sum is the sum of all").host
}

/// PJSIP: the first eight of the answer; then by weight.
fn pjsip(mut answer: Vec<Target>, random: &mut SplitMix) -> u8 {
    answer.truncate(8);
    by_weight(answer, random)
}

/// One that reads no weights.
fn first(answer: Vec<Target>, _random: &mut SplitMix) -> u8 {
    answer[0].host
}

type Stack = fn(Vec<Target>, &mut SplitMix) -> u8;

/// Reads the targets of a response to a request of `asked` bytes: their names are not compressed and end with the domain.
fn read(response: &[u8], asked: usize) -> Vec<Target> {
    let count = u16::from_be_bytes([response[6], response[7]]);
    let mut at = asked;
    let number = |at: usize| u16::from_be_bytes([response[at], response[at + 1]]);
    (0..count)
        .map(|_| {
            let label = &response[at + TARGET_AT + 1..][..usize::from(response[at + TARGET_AT])];
            let label = core::str::from_utf8(label).expect("labels are text");
            let IpAddr::V4(address) = host::address(label).expect("a host") else {
                panic!("{label} has no IPv4 address");
            };
            let target = Target {
                priority: number(at + 12),
                weight: number(at + WEIGHT_AT),
                port: number(at + 16),
                host: address.octets()[3],
            };
            at += 12 + usize::from(number(at + 10));
            target
        })
        .collect()
}

fn request() -> Vec<u8> {
    let mut request = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    ["_sip", "_udp", "m", "test"].iter().for_each(|label| push_label(&mut request, label));
    request.extend_from_slice(&[0, 0, 33, 0, 1]);
    request
}

/// The share of calls that each host gets from `stack`, of so many answers.
fn shares(weights: &[u16], profile: Profile, stack: Stack, answers: u32) -> Vec<f64> {
    let nodes: Vec<char> = "cdefghijklmnopqrstuvwxyz".chars().take(weights.len()).collect();
    let instance = |(node, weight): (&char, &u16)| format!("{node} passing weight={weight}");
    let world: Vec<String> = nodes.iter().zip(weights).map(instance).collect();
    let snapshot = World::read(&world.join("; ")).snapshot();
    let zone = Zone::new(Arc::new(zone()), &snapshot);
    let (request, mut buffer) = (request(), [0; RESPONSE_BYTES_MAX]);
    let client = Client { profile, ..Client::LOCAL };
    let (mut random, mut calls) = (SplitMix(7), BTreeMap::new());
    for draw in 0..answers {
        let answered = zone
            .answer(&client, &request, &mut buffer, crate::urn::mix(draw.into()))
            .expect("the question is usual");
        let answer = read(&buffer[..answered.length], request.len());
        assert!(answered.length <= usize::from(profile.udp_bytes_max()) && answer.len() <= 8);
        assert!(answer.iter().all(|target| target.port == 5060));
        *calls.entry(stack(answer, &mut random)).or_insert(0_u32) += 1;
    }
    nodes
        .iter()
        .map(|node| {
            let host = u8::try_from(*node).expect("a letter") - b'a' + 1;
            f64::from(calls.get(&host).copied().unwrap_or_default()) / f64::from(answers)
        })
        .collect()
}

/// How far a share is from what the weights say, at most.
fn error(weights: &[u16], profile: Profile, stack: Stack, answers: u32) -> f64 {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let shares = shares(weights, profile, stack, answers);
    let off = |(share, weight): (f64, &u16)| (share - f64::from(*weight) / sum).abs();
    shares.into_iter().zip(weights).map(off).fold(0.0, f64::max)
}

const THREE: [u16; 3] = [200, 100, 50];
const MANY: [u16; 20] = [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 20, 20, 20, 20, 20, 50, 50, 50, 100, 400];

#[test]
fn every_stack_calls_everybody_as_often_as_the_weights_say() {
    let stacks: [(Profile, Stack); 8] = [
        (Profile::Full, by_weight),
        (Profile::Full, first),
        (Profile::Kamailio, kamailio),
        (Profile::KamailioLb, by_weight),
        (Profile::Opensips, by_weight),
        (Profile::Pjsip, pjsip),
        (Profile::Sofia, by_weight),
        (Profile::Sofia, first),
    ];
    for (profile, stack) in stacks {
        for weights in [THREE.as_slice(), &MANY] {
            let error = error(weights, profile, stack, 100_000);
            println!("{profile:12} {:2} targets: off by {error:.4} at most", weights.len());
            assert!(error < 0.006, "{profile}, {} targets: {error}", weights.len());
        }
    }
}

#[test]
fn without_its_profile_kamailio_calls_the_heaviest_only() {
    assert_eq!(shares(&THREE, Profile::Full, kamailio, 1_000), [1.0, 0.0, 0.0]);
}
