//! What an operator sees of six real agents when things go well and when they do not.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use support::{Agent, DOMAIN, Demo, alive_at, dig, dig_full, has, http, is_gone, signal, state_of, within};

const SIP: &str = "_sip._udp.ringmesh.internal";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The ports of the SRV answer: each instance of the demo has its own.
fn sip_ports(agent: &Agent) -> BTreeSet<String> {
    dig(agent.dns, &[SIP, "SRV"])
        .iter()
        .filter_map(|line| line.split(' ').nth(2).map(str::to_owned))
        .collect()
}

#[test]
fn six_agents_agree_within_three_seconds_and_answer_everything_over_udp_and_tcp() {
    if !has("dig") {
        return;
    }
    let demo = Demo::start(1_000);
    let agreed = demo.ready["agreed_s"].as_f64().expect("a number");
    assert!(agreed < 3.0, "{agreed} s");
    for agent in demo.agents() {
        for protocol in ["+notcp", "+tcp"] {
            check_answers(&agent, protocol);
        }
    }
}

fn check_answers(agent: &Agent, protocol: &str) {
    let ask = |name: &str, qtype: &str| dig_full(agent.dns, &[protocol, name, qtype]);
    let srv = ask(SIP, "SRV");
    assert_eq!(srv.matches("\tIN\tSRV\t").count(), 3, "{srv}");
    assert_eq!(srv.matches(".h.ringmesh.internal. 5\tIN\tA\t").count(), 3, "glue: {srv}");
    assert!(srv.contains("flags: qr aa rd;"), "{srv}");
    let naptr = ask(DOMAIN, "NAPTR");
    assert!(naptr.contains("\"SIP+D2U\" \"\" _sip._udp."), "{naptr}");
    assert!(naptr.contains("\"SIP+D2T\" \"\" _sip._tcp."), "{naptr}");
    assert!(!naptr.contains("SIPS+D2T"), "nobody listens on tls: {naptr}");
    let a = dig(agent.dns, &[protocol, "sip.ringmesh.internal", "A"]);
    assert_eq!(a.len(), 3, "{a:?}");
    let nodata = ask("sip.ringmesh.internal", "AAAA");
    assert!(
        nodata.contains("status: NOERROR") && nodata.contains("ANSWER: 0") && nodata.contains("SOA"),
        "{nodata}"
    );
    let reverse = dig(agent.dns, &[protocol, "-x", "127.0.0.11"]);
    assert_eq!(reverse, ["fra-1.n.ringmesh.internal."]);
    let soa = ask(DOMAIN, "SOA");
    assert!(soa.contains("hostmaster.ringmesh.internal."), "{soa}");
    let missing = ask("_sip._udp.nothing.ringmesh.internal", "SRV");
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("SOA"), "{missing}");
    let empty = ask("_udp.sip.ringmesh.internal", "SRV");
    assert!(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0"), "{empty}");
    let foreign = ask("example.com", "A");
    assert!(foreign.contains("status: REFUSED"), "{foreign}");
    let zone = dig(agent.dns, &[protocol, "_sip._udp.sip.ams.zone.ringmesh.internal", "SRV"]);
    assert_eq!(zone.len(), 1, "{zone:?}");
}

#[test]
fn a_sip_service_that_is_killed_leaves_every_answer_within_its_checks() {
    if !has("dig") {
        return;
    }
    let demo = Demo::start(1_010);
    let agents = demo.agents();
    let before = sip_ports(&agents[0]);
    assert_eq!(before.len(), 3);
    signal(demo.pid_of_instance("sip-ams-1"), Signal::SIGKILL);
    let limit = Duration::from_millis(1_100 * 2 + 500 + 200);
    let took = within(limit, "gone everywhere", || agents.iter().all(|agent| sip_ports(agent).len() == 2));
    println!("a killed responder left the answers of all six agents after {took:?}");
}

#[test]
fn an_agent_that_is_killed_is_gone_within_ten_seconds_and_back_within_three() {
    if !has("dig") {
        return;
    }
    let mut demo = Demo::start(1_020);
    let agents = demo.agents();
    let (dead, others) = (agents[2].clone(), [&agents[..2], &agents[3..]].concat());
    assert_eq!(dead.node, "ams-1");
    signal(dead.pid, Signal::SIGKILL);
    let took = within(secs(10), "gone everywhere", || {
        others.iter().all(|agent| state_of(agent.http, &dead.node) == "Down" && sip_ports(agent).len() == 2)
    });
    println!("a killed agent was gone from all five others after {took:?}");
    demo.restart(&dead);
    let took = within(secs(3), "back everywhere", || {
        others.iter().all(|agent| state_of(agent.http, &dead.node) == "Alive" && sip_ports(agent).len() == 3)
            && alive_at(dead.http) == 6
    });
    println!("it was back after {took:?}");
}

#[test]
fn an_agent_that_leaves_is_gone_within_half_a_second_and_left() {
    if !has("dig") {
        return;
    }
    let demo = Demo::start(1_030);
    let agents = demo.agents();
    let others = &agents[..5];
    let leaver = &agents[5];
    let (status, answer) = http(leaver.http, "POST", "/api/v1/leave", "");
    assert_eq!(status, 200, "{answer}");
    let took = within(Duration::from_millis(500), "left everywhere", || {
        others.iter().all(|agent| state_of(agent.http, &leaver.node) == "Left")
    });
    println!("a leave was known to all others after {took:?}");
    assert!(
        others
            .iter()
            .all(|agent| dig(agent.dns, &["_http._tcp.limiter.ringmesh.internal", "SRV"]).len() == 1)
    );
}

#[test]
fn restarting_all_six_agents_one_after_the_other_changes_no_answer() {
    if !has("dig") {
        return;
    }
    let mut demo = Demo::start(1_040);
    let agents = demo.agents();
    let wanted = sip_ports(&agents[0]);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let restarting = Arc::new(std::sync::Mutex::new(String::new()));
    let asker = {
        let (agents, restarting, wanted) = (agents.clone(), restarting.clone(), wanted.clone());
        let (stop, asked) = (stop.clone(), asked.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for agent in &agents {
                    let is_away = |agent: &Agent| *restarting.lock().expect("not poisoned") == agent.node;
                    let was_away = is_away(agent);
                    let ports = sip_ports(agent);
                    if !was_away && !is_away(agent) {
                        assert_eq!(ports, wanted, "the answer of {} changed", agent.node);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
    };
    for agent in &agents {
        *restarting.lock().expect("not poisoned") = agent.node.clone();
        signal(agent.pid, Signal::SIGTERM);
        within(secs(5), "it ended", || is_gone(agent.pid));
        demo.restart(agent);
        within(secs(5), "it answers again", || !dig(agent.dns, &[SIP, "SRV"]).is_empty());
        restarting.lock().expect("not poisoned").clear();
        within(secs(10), "all six agree", || agents.iter().all(|agent| alive_at(agent.http) == 6));
        let before = asked.load(Ordering::Relaxed);
        within(secs(20), "more answers came", || {
            asker.is_finished() || asked.load(Ordering::Relaxed) >= before + 10
        });
    }
    stop.store(true, Ordering::Relaxed);
    asker.join().expect("no answer changed");
    let asked = asked.load(Ordering::Relaxed);
    println!("{asked} answers during six restarts, none different");
    assert!(asked >= 60);
}

#[test]
fn the_last_agent_goes_on_answering_when_all_its_peers_are_dead() {
    if !has("dig") {
        return;
    }
    let demo = Demo::start(1_050);
    let agents = demo.agents();
    for agent in &agents[1..] {
        signal(agent.pid, Signal::SIGKILL);
    }
    let alone = || agents[1..].iter().all(|agent| state_of(agents[0].http, &agent.node) == "Down");
    within(secs(70), "it is alone", alone);
    assert_eq!(sip_ports(&agents[0]).len(), 1, "its own instance is the one that is known to be well");
    assert_eq!(
        dig(agents[0].dns, &["_http._tcp.limiter.ringmesh.internal", "SRV"]).len(),
        2,
        "the last known are served"
    );
}

#[test]
fn a_service_whose_every_instance_is_dead_is_still_answered_and_explained() {
    if !has("dig") {
        return;
    }
    let demo = Demo::start(1_060);
    let agents = demo.agents();
    for id in ["sip-fra-1", "sip-ams-1", "sip-lon-1"] {
        signal(demo.pid_of_instance(id), Signal::SIGKILL);
    }
    let all_failing = || {
        let (_, answer) = http(agents[0].http, "GET", "/api/v1/services/sip?health=failing", "");
        assert!(!sip_ports(&agents[0]).is_empty(), "the answer was empty");
        answer["instances"].as_array().is_some_and(|instances| instances.len() == 3)
    };
    within(secs(5), "all three fail", all_failing);
    for agent in &agents {
        assert!(!sip_ports(agent).is_empty());
    }
    // An instance fails as soon as one of its endpoints does: the floor is reached when the last one over UDP does.
    let explain = || http(agents[0].http, "GET", "/api/v1/explain?name=_sip._udp", "").1;
    within(secs(5), "nothing over UDP passes", || explain()["floor"].is_string());
    let explained = explain();
    let served = explained["candidates"]
        .as_array()
        .expect("candidates")
        .iter()
        .filter(|c| c["in_answer"] == true)
        .count();
    assert!(served > 0, "{explained}");
}

#[test]
fn a_demo_that_is_killed_leaves_no_process_and_no_socket() {
    let mut demo = Demo::start(1_070);
    let agents = demo.agents();
    let _ = demo.process.0.kill();
    let _ = demo.process.0.wait();
    within(secs(5), "every child has ended", || {
        agents.iter().all(|agent| is_gone(agent.pid))
            && ["sip-fra-1", "media-ams-2", "limiter-lon-2"]
                .iter()
                .all(|id| is_gone(demo.pid_of_instance(id)))
    });
    for agent in &agents {
        std::net::TcpListener::bind(agent.http).expect("the port is free");
        std::net::UdpSocket::bind(agent.mesh).expect("the port is free");
    }
}
