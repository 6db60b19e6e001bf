/**
 * A Linux guest under a VMM process, on a KVM that is whole, driven through the guest's own control channel.
 *
 * @module
 */

import { join } from "node:path";
import { spec } from "../../agent-images/codex/agent.ts";
import { type PreparedImage, prepareImage } from "../../src/images/prepare.ts";
import { GuestClient, readHello } from "../../src/session/guest_client.ts";
import type { VmConfig } from "../../src/vmm/protocol.ts";
import { TestVmm } from "./vmm.ts";

/** What a command in the guest did. */
export interface GuestResult {
  readonly exitCode: number | null;
  readonly output: string;
}

/** How a test's guest differs from the usual one. */
export interface LinuxVmOptions extends Partial<Omit<VmConfig, "cmdline">> {
  /** words added to the kernel command line */
  readonly words?: string;
  /** further disks, behind the root disk */
  readonly moreDisks?: VmConfig["disks"];
  /** network namespace that the VMM runs in */
  readonly namespace?: string;
  /** longest boot in `ms` */
  readonly bootTimeoutMs?: number;
}

const CMDLINE =
  "console=ttyS0 quiet reboot=t panic=-1 acpi=off i8042.nokbd i8042.noaux tsc=reliable random.trust_cpu=on";
const ROOT = "root=/dev/vda rw init=/sbin/paddock-init";

/** The image that guests boot from; built before the tests run. */
export function testImage(): Promise<PreparedImage> {
  return prepareImage(spec, { onProgress: () => {} });
}

/** A guest that said it is ready. */
export class LinuxVm implements AsyncDisposable {
  readonly folder: string;
  readonly vmm: TestVmm;
  readonly client: GuestClient;
  /** pid of the VMM process */
  readonly pid: number;
  /** kernel's uptime in `ms` when the guest's init was ready */
  readonly readyUptimeMs: number;

  private constructor(folder: string, vmm: TestVmm, client: GuestClient, readyUptimeMs: number) {
    this.folder = folder;
    this.vmm = vmm;
    this.client = client;
    this.pid = vmm.pid;
    this.readyUptimeMs = readyUptimeMs;
  }

  /** Path of the guest's root disk. */
  get overlayPath(): string {
    return join(this.folder, "overlay.qcow2");
  }

  /** Boots; returns once the guest's init is ready. */
  static async boot(options: LinuxVmOptions = {}): Promise<LinuxVm> {
    const image = await testImage();
    const { words = "", moreDisks = [], bootTimeoutMs = 60_000, namespace, ...config } = options;
    const folder = await Deno.makeTempDir({ prefix: "paddock-vm-" });
    const socketPath = join(folder, "v.sock");
    const listener = Deno.listen({ transport: "unix", path: `${socketPath}_1025` });
    const vmm = new TestVmm(namespace);
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const root = {
        path: join(folder, "overlay.qcow2"),
        format: "qcow2",
        overlayOf: { path: image.rootfsPath, format: image.rootfsFormat },
      } as const;
      await vmm.start({
        kernelPath: image.kernelPath,
        cmdline: `${CMDLINE} ${config.initrdPath === undefined ? ROOT : ""} ${words}`,
        memoryMib: 512,
        disks: config.initrdPath === undefined ? [root, ...moreDisks] : moreDisks,
        vsock: { cid: 3, socketPath },
        ...config,
      });
      const timeout = new Promise<never>((_, reject) => {
        timer = setTimeout(
          () => reject(new BootError(`No guest after ${bootTimeoutMs} ms: ${vmm.console}`)),
          bootTimeoutMs,
        );
      });
      const gone = vmm.until("stopped").then((end) => {
        throw new BootError(`The guest ended: ${end.reason} ${end.detail ?? ""} ${vmm.console}`);
      });
      // Nobody looks at it once the guest is up: the VM's own end is awaited then.
      gone.catch(() => {});
      const hello = await Promise.race([listener.accept().then(readHello), timeout, gone]);
      return new LinuxVm(folder, vmm, new GuestClient(socketPath), hello.uptimeMs);
    } catch (error) {
      await vmm[Symbol.asyncDispose]();
      await Deno.remove(folder, { recursive: true });
      throw error;
    } finally {
      clearTimeout(timer);
      listener.close();
    }
  }

  /** Runs a shell command as root in the guest. */
  async sh(script: string): Promise<GuestResult> {
    let output = "";
    const decoder = new TextDecoder();
    const collect = (chunk: Uint8Array): void => void (output += decoder.decode(chunk, { stream: true }));
    const process = await this.client.exec({
      argv: ["/bin/sh", "-c", script],
      env: { PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
      cwd: "/",
      user: "root",
      onStdout: collect,
      onStderr: collect,
    });
    const { exitCode } = await process.exit;
    process.close();
    return { exitCode, output };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vmm[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A guest did not come up. */
export class BootError extends Error {
  override readonly name = "BootError";
}
