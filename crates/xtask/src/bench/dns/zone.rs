//! What is served: the services of `ringmesh bench-zone`, as a zone file for the others. Pure.

/// The domain.
pub(crate) const DOMAIN: &str = "voip.mesh.test";
/// So many services.
const SERVICES: u16 = 200;
/// Priority and weight of the targets of each.
pub(crate) const TARGETS: [(u16, u16); 3] = [(10, 50), (10, 50), (20, 100)];

/// The names of all services.
pub(crate) fn services() -> impl Iterator<Item = String> {
    (1..=SERVICES).map(service)
}

fn service(number: u16) -> String {
    format!("svc{number:03}")
}

/// Where a service has its SRV records.
pub(crate) fn srv_name(service: &str) -> String {
    format!("_sip._udp.{service}.{DOMAIN}")
}

/// The host that the zone file names as target of a service, the first being 1.
pub(crate) fn host(service: &str, target: usize) -> String {
    format!("n{target}.{service}.{DOMAIN}")
}

/// The zone file.
pub(crate) fn file() -> String {
    let mut lines = vec![
        format!("$ORIGIN {DOMAIN}."),
        "$TTL 60".to_owned(),
        format!("@ IN SOA ns1.{DOMAIN}. hostmaster.{DOMAIN}. 1 3600 600 86400 60"),
        "@ IN NS ns1".to_owned(),
        "ns1 IN A 127.0.0.1".to_owned(),
    ];
    for number in 1..=SERVICES {
        let service = service(number);
        let srv_name = srv_name(&service);
        lines.push(format!("{service} IN NAPTR 10 50 \"s\" \"SIP+D2U\" \"\" {srv_name}."));
        for (target, (priority, weight)) in (1..).zip(TARGETS) {
            let host = host(&service, target);
            lines.push(format!("{srv_name}. IN SRV {priority} {weight} 5060 {host}."));
            lines.push(format!("{host}. IN A 10.{}.{}.{target}", number / 250 + 1, number % 250));
            lines.push(format!("{host}. IN AAAA fd00:10:{number:x}::{target}"));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_every_service_has_its_records() {
        let file = file();
        let count = |mark: &str| file.lines().filter(|line| line.contains(mark)).count();
        for (mark, want) in [(" SRV ", 600), (" A ", 601), (" AAAA ", 600), (" NAPTR ", 200), (" SOA ", 1)] {
            assert_eq!(count(mark), want, "{mark}");
        }
        for line in [
            "_sip._udp.svc007.voip.mesh.test. IN SRV 20 100 5060 n3.svc007.voip.mesh.test.",
            "n3.svc007.voip.mesh.test. IN A 10.1.7.3",
            "n1.svc200.voip.mesh.test. IN AAAA fd00:10:c8::1",
        ] {
            assert!(file.lines().any(|other| other == line), "{line}");
        }
        assert!(file.ends_with('\n'));
    }
}
