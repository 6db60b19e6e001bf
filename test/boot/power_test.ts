/**
 * The ways to have a Linux guest power off in order, each by itself. ACPI's button is `debian_test.ts`'s: its guest has
 * no module and no init of ours.
 */
import { doesNotMatch, equal, match } from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/command.ts";
import { LinuxVm } from "../support/linux_vm.ts";

/**
 * A daemon. Its last words are on the disk only if it is told to end, has the time to, and the file system is unmounted or
 * synced after it.
 */
const SERVICE = `
cat > /root/service << 'END'
trap 'echo orderly > /root/last-words; exit 0' TERM
echo up > /root/state
while :; do sleep 0.1; done
END
setsid sh /root/service < /dev/null > /dev/null 2>&1 &
while ! [ -e /root/state ]; do sleep 0.1; done`;

/** Has a guest with a service end by `ask`, and looks at its disk. */
async function endsInOrder(ask: (vm: LinuxVm) => Promise<void>): Promise<void> {
  await using vm = await LinuxVm.boot();
  equal((await vm.sh(SERVICE)).exitCode, 0);
  await ask(vm);
  equal((await vm.vmm.until("stopped")).reason, "poweroff");
  await vm.vmm.status;
  const raw = join(vm.folder, "after.raw");
  run("qemu-img", ["convert", "-O", "raw", vm.overlayPath, raw]);
  match(run("debugfs", ["-R", "cat /root/last-words", raw]), /orderly/);
  // Nothing is left for the journal to recover.
  doesNotMatch(run("dumpe2fs", ["-h", raw]), /needs_recovery/);
}

Deno.test("a guest powers off in order when its init is asked over vsock", async () => {
  await endsInOrder((vm) => vm.client.powerOff());
});

Deno.test("a guest without ACPI powers off in order by its module's interrupt, when the VMM gets SIGTERM", async () => {
  await endsInOrder((vm) => Promise.resolve(vm.vmm.kill("SIGTERM")));
});
