//! kubectl through the hub while it is online, with a ServiceAccount's token: lists, logs, and exec over
//! both upgrade protocols.

use crate::kubectl::Kubectl;
use crate::node::HUB_PORT;
use crate::workload::{NAMESPACE, SECRET};
use crate::world::World;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

pub fn run(world: &mut World) -> Result<()> {
    let pods = world.be_online()?;
    let pod = pods.keys().find(|name| name.starts_with("web-")).context("no pod of the Deployment")?;
    let kubectl = Kubectl::new(&world.settings.kubectl, &world.operator_configs()?.0);
    let listed = kubectl.run(&["get", "pods", "-n", NAMESPACE, "-o", "name"])?;
    if listed.lines().count() != pods.len() {
        bail!("kubectl lists {} pods of {}: {listed}", listed.lines().count(), pods.len());
    }
    let logs = kubectl.run(&["logs", "-n", NAMESPACE, pod])?;
    if !logs.contains("response:200") {
        bail!("the log shows no answered probe: {logs:?}");
    }
    exec(&kubectl, pod).context("exec over WebSocket")?;
    exec(&kubectl.with_spdy(), pod).context("exec over SPDY")?;
    openssl(&world.node.hub_authority()).context("a client of OpenSSL")
}

/// A client whose TLS is OpenSSL's, as strict as Python 3.13 is by itself.
fn openssl(authority: &Path) -> Result<()> {
    let program = "import ssl, sys, urllib.request as u
strict = ssl.create_default_context(cafile=sys.argv[2])
strict.verify_flags |= ssl.VERIFY_X509_STRICT
print(u.urlopen(sys.argv[1], context=strict, timeout=10).status)";
    let url = format!("https://127.0.0.1:{HUB_PORT}/version");
    let asked = Command::new("python3").args(["-c", program, &url]).arg(authority).output()?;
    if asked.stdout.trim_ascii() != b"200" {
        bail!("{}{}", String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr));
    }
    Ok(())
}

/// One command that only prints, and one whose output is its input.
fn exec(kubectl: &Kubectl, pod: &str) -> Result<()> {
    let secret = kubectl.run(&["exec", "-n", NAMESPACE, pod, "--", "cat", SECRET.0])?;
    if secret != SECRET.1 {
        bail!("printed {secret:?}");
    }
    let input = "one line\n".repeat(2_000);
    let echoed = kubectl.with_input(&["exec", "-i", "-n", NAMESPACE, pod, "--", "cat"], &input)?;
    if echoed != input {
        bail!("{} of {} bytes came back", echoed.len(), input.len());
    }
    Ok(())
}
