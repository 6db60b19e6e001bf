import { equal } from "node:assert/strict";
import { exists } from "../support/command.ts";
import { roundOf, smpGuest } from "../support/smp_guest.ts";
import { elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const noKvm = !exists("/dev/kvm");

for (const cpus of [1, 2, 4, 16]) {
  const name = `${cpus} vCPUs start, know their numbers and take turns`;
  Deno.test({
    name: noKvm ? `${name} (skipped: no /dev/kvm)` : name,
    ignore: noKvm,
    async fn(): Promise<void> {
      const kernelPath = Deno.makeTempFileSync({ prefix: "paddock-guest-", suffix: ".elf" });
      try {
        Deno.writeFileSync(kernelPath, elfOf(smpGuest(cpus, 2)));
        await using vmm = new TestVmm();
        await vmm.start({ kernelPath, cpus });
        equal((await vmm.until("stopped", 60_000)).reason, "poweroff");
        equal(vmm.console, roundOf(cpus).repeat(2));
      } finally {
        Deno.removeSync(kernelPath);
      }
    },
  });
}
