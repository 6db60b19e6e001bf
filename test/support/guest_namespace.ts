/**
 * A network namespace in the place of a guest, at the other end of a session's link.
 *
 * @module
 */

import type { LinkServices } from "../../src/network/ruleset.ts";
import { createNetwork, removeNetwork, type SessionNetwork } from "../../src/network/session_network.ts";

/** Administration tools are not on every user's PATH. */
function isInstalled(tool: string): boolean {
  const args = ["-c", `PATH=$PATH:/usr/sbin:/sbin command -v ${tool}`];
  return new Deno.Command("sh", { args, stdout: "null" }).outputSync().success;
}

/** Namespaces need root and three tools; the name says so where they are missing. */
export const NAMESPACES = Deno.uid() === 0 && ["ip", "nft", "socat"].every(isInstalled)
  ? { ignore: false, suffix: "" }
  : { ignore: true, suffix: " (skipped: needs root, ip, nft and socat)" };

/** Only the model gateway, and no names. */
export const GATEWAY_ONLY: LinkServices = { tcpPorts: [8080], hasDns: false };

/** Runs a shell script in a namespace. */
export async function inside(
  network: SessionNetwork,
  script: string,
): Promise<{ code: number; text: string }> {
  const [tool = "", ...args] = [...network.enter, "sh", "-c", script];
  const output = await new Deno.Command(tool, {
    args,
    stderr: "null",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  })
    .output();
  return { code: output.code, text: new TextDecoder().decode(output.stdout) };
}

/** A namespace at the other end of the link, in place of a guest: the TAP becomes a veth of the same name. */
export async function plugGuest(network: SessionNetwork, guestName: string): Promise<SessionNetwork> {
  await removeNetwork(guestName);
  const guest = await createNetwork(guestName, 1, GATEWAY_ONLY);
  await inside(
    network,
    `ip link del tap0; ip link add tap0 type veth peer name eth0 netns ${guestName}
     ip addr add 172.30.0.1/30 dev tap0; ip link set tap0 up`,
  );
  await inside(
    guest,
    `nft flush ruleset; ip link del tap0; ip addr add 172.30.0.2/30 dev eth0
     ip link set eth0 up; ip link set lo up; ip route add default via 172.30.0.1`,
  );
  return guest;
}
