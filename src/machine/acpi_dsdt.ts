/**
 * The device tree that ACPI shows a guest (DSDT): what it cannot find by itself, which is every device here.
 *
 * @module
 */

import { SLEEP_TYPE_S5 } from "../../devices/acpi_power.ts";
import * as aml from "./acpi_aml.ts";
import * as layout from "./layout.ts";

/** The DSDT's AML for a machine with `virtioDevices` virtio devices, without the table's header. */
export function dsdtAml(virtioDevices: number): Uint8Array {
  const virtio = Array.from({ length: virtioDevices }, (_, index) => virtioDevice(index));
  return Uint8Array.from([
    ...aml.scope("_SB_", serialPort(), clock(), ...virtio),
    // The values for PM1a_CNT and PM1b_CNT; the others are reserved.
    ...aml.named(
      "_S5_",
      aml.packageOf(aml.integer(SLEEP_TYPE_S5), aml.integer(0), aml.integer(0), aml.integer(0)),
    ),
  ]);
}

/** A 16550 at COM1. */
function serialPort(): aml.Aml {
  return aml.device(
    "COM1",
    aml.named("_HID", aml.eisaId("PNP0501")),
    aml.named("_UID", aml.integer(1)),
    aml.named("_CRS", aml.resources(aml.ioPorts(layout.SERIAL_PORT, 8), aml.isaIrq(layout.SERIAL_IRQ))),
  );
}

/** The CMOS clock, whose interrupt never comes. */
function clock(): aml.Aml {
  return aml.device(
    "RTC_",
    aml.named("_HID", aml.eisaId("PNP0B00")),
    aml.named("_CRS", aml.resources(aml.ioPorts(layout.RTC_PORT, 2), aml.isaIrq(layout.RTC_IRQ))),
  );
}

/** A virtio-mmio device: the id is the one that Linux' driver matches (`drivers/virtio/virtio_mmio.c`). */
function virtioDevice(index: number): aml.Aml {
  const { guestAddr, irq } = layout.virtioSlot(index);
  return aml.device(
    `VR${index.toString(16).toUpperCase().padStart(2, "0")}`,
    aml.named("_HID", aml.text("LNRO0005")),
    aml.named("_UID", aml.integer(index)),
    aml.named(
      "_CRS",
      aml.resources(aml.fixedMemory(guestAddr, layout.VIRTIO_MMIO_BYTES), aml.edgeInterrupt(irq)),
    ),
  );
}
