import assert from "node:assert/strict";
import { LocalError } from "../../src/local/local_error.ts";
import { parsePrices, readPrices } from "../../src/local/price_file.ts";

Deno.test("parsePrices() reads prices of models", () => {
  const prices = parsePrices(`
["gpt-6.1-sol"]
input = 2
output = 10.5
cached_input = 0.1
long = { over_tokens = 1000, input_factor = 2 }
["free*"]
input = 0
output = 0
`);
  assert.deepEqual(JSON.parse(JSON.stringify(prices)), {
    "gpt-6.1-sol": {
      input: 2,
      output: 10.5,
      cachedInput: 0.1,
      long: { overTokens: 1000, inputFactor: 2, outputFactor: 1 },
    },
    "free*": { input: 0, output: 0 },
  });
});

Deno.test("parsePrices() says what is wrong", () => {
  const cases: [string, RegExp][] = [
    ["[m", /line 1/],
    ["m = 3", /"m" must be a table/],
    ["[m]\ninput = 1", /"m".output is missing/],
    ["[m]\ninput = -1\noutput = 1", /"m".input must be a number/],
    ["[m]\ninput = nan\noutput = 1", /"m".input must be a number/],
    ["[m]\ninput = 1\noutput = 1\ncached = 1", /"m".cached is not known/],
    ["[m]\ninput = 1\noutput = 1\nlong = {}", /over_tokens is missing/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parsePrices(text), { name: "RangeError", message });
  }
});

Deno.test("readPrices() needs a file only where one is named", async () => {
  const folder = await Deno.makeTempDir();
  const before = Deno.env.get("PADDOCK_CONFIG");
  try {
    Deno.env.set("PADDOCK_CONFIG", folder);
    assert.equal(await readPrices(undefined), undefined);
    await assert.rejects(readPrices(`${folder}/none.toml`), LocalError);
    await Deno.writeTextFile(`${folder}/prices.toml`, "[m]\ninput = 1\noutput = 2\n");
    assert.equal((await readPrices(undefined))?.m?.output, 2);
    await Deno.writeTextFile(`${folder}/prices.toml`, "[m]\n");
    await assert.rejects(
      readPrices(undefined),
      /Cannot use the prices in ".*prices.toml": "m".input is missing/,
    );
  } finally {
    if (before === undefined) Deno.env.delete("PADDOCK_CONFIG");
    else Deno.env.set("PADDOCK_CONFIG", before);
    await Deno.remove(folder, { recursive: true });
  }
});
