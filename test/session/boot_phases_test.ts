import { deepEqual, equal } from "node:assert/strict";
import { bootPhases, describeBootPhases } from "../../src/session/boot_phases.ts";

const STARTED = { processStartMs: 20, kvmReadyMs: 25.04, kernelLoadedMs: 70, firstInstructionMs: 80 };

Deno.test("bootPhases() gives the time between one step and the next", () => {
  deepEqual(bootPhases({ ...STARTED, initMs: 580, readyMs: 600.5 }), {
    processStart: 20,
    kvmSetup: 5,
    kernelLoad: 45,
    firstInstruction: 10,
    kernelToInit: 500,
    initToReady: 20.5,
  });
});

Deno.test("bootPhases() says nothing of steps that the guest did not report", () => {
  equal(
    describeBootPhases(bootPhases(STARTED)),
    "Boot: process start 20 ms, KVM set-up 5 ms, kernel load 45 ms, first instruction 10 ms",
  );
});

Deno.test("bootPhases() knows no phase that ends before it begins", () => {
  equal(bootPhases({ ...STARTED, initMs: 79, readyMs: 79.1 }).kernelToInit, 0);
});
