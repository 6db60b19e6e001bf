import { equal } from "node:assert/strict";
import * as abi from "../../src/kvm/abi.ts";
import * as structs from "../../src/kvm/structs.ts";

/** Runs a C program that prints one number a line, made from these expressions. */
function evaluateInC(expressions: readonly string[]): bigint[] {
  const folder = Deno.makeTempDirSync();
  try {
    const prints = expressions.map((text) => `  printf("%llu\\n", (unsigned long long)(${text}));`);
    const source = [
      "#include <stddef.h>",
      "#include <stdio.h>",
      "#include <linux/kvm.h>",
      "int main(void) {",
      ...prints,
      "  return 0;",
      "}",
    ].join("\n");
    Deno.writeTextFileSync(`${folder}/abi.c`, source);
    const compiled = new Deno.Command("cc", { args: ["-o", `${folder}/abi`, `${folder}/abi.c`] })
      .outputSync();
    equal(new TextDecoder().decode(compiled.stderr), "");
    const output = new Deno.Command(`${folder}/abi`).outputSync();
    return new TextDecoder().decode(output.stdout).trim().split("\n").map(BigInt);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Fields whose C name is not the camelCase name in snake case, or that C keeps in an array. */
const C_FIELDS: Record<string, string> = {
  "kvm_fpu.fcw": "fcw",
  "kvm_lapic_state.lint0": "regs[0x350]",
  "kvm_lapic_state.lint1": "regs[0x360]",
};

Deno.test("every structure has the C compiler's size and offsets", () => {
  const expected: [string, bigint][] = [];
  for (const layout of Object.values(structs)) {
    if (!("cName" in layout)) continue;
    expected.push([`sizeof(struct ${layout.cName})`, BigInt(layout.sizeBytes)]);
    for (const [name, field] of Object.entries(layout.fields)) {
      const cField = C_FIELDS[`${layout.cName}.${name}`] ?? snake(name);
      expected.push([`offsetof(struct ${layout.cName}, ${cField})`, BigInt(field.offset)]);
    }
  }
  const actual = evaluateInC(expected.map(([expression]) => expression));
  expected.forEach(([expression, value], index) => equal(value, actual[index], expression));
});

Deno.test("every offset in kvm_run is the C compiler's", () => {
  const offsets = Object.entries(structs.KVM_RUN_OFFSETS);
  const actual = evaluateInC(offsets.map(([field]) => `offsetof(struct kvm_run, ${field})`));
  offsets.forEach(([field, offset], index) => equal(BigInt(offset), actual[index], field));
});

Deno.test("every constant has the C header's value", () => {
  const constants = Object.entries(abi).filter(([, value]) => typeof value !== "object");
  const actual = evaluateInC(constants.map(([name]) => name));
  constants.forEach(([name, value], index) => equal(BigInt(value as number | bigint), actual[index], name));
});
