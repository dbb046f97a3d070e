//! unbound, set up with the file of `deploy/dns`.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::net::IpAddr;

use super::{Folder, fragment};

/// What stands around that file: validation with the root's key (KSK-2017), and no loopback addresses.
const AROUND: &str = r#"
server:
    do-ip6: no
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    private-address: 127.0.0.0/8
    trust-anchor: ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
remote-control:
    control-enable: no
"#;

/// How it is started, in the foreground and on port 53 of `interface`.
pub(crate) fn words(folder: &Folder, interface: IpAddr) -> Vec<String> {
    let included = fragment("unbound.conf");
    let text = format!("{AROUND}server:\n    interface: {interface}\ninclude: {included:?}\n");
    ["unbound", "-d", "-c", &folder.write("unbound.conf", &text)].map(str::to_owned).into()
}
