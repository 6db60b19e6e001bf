import assert from "node:assert/strict";
import { EGRESS_PROFILES, EgressPolicy, type EgressRequest } from "../../src/network/egress_policy.ts";
import { EgressRuleError, normalizeName, parseEgressRule } from "../../src/network/egress_rule.ts";

const policy = (allow: string[], rest: Partial<EgressRequest> = {}): EgressPolicy =>
  new EgressPolicy({ mode: "proxy", allow, profiles: [], ...rest });

Deno.test("parseEgressRule() reads names, wildcards and ports, in any case and script", () => {
  assert.deepEqual(parseEgressRule("API.GitHub.com."), {
    name: "api.github.com",
    isWildcard: false,
    port: undefined,
  });
  assert.deepEqual(parseEgressRule("*.example.org:443"), {
    name: "example.org",
    isWildcard: true,
    port: 443,
  });
  assert.equal(parseEgressRule("bücher.example").name, "xn--bcher-kva.example");
});

Deno.test("parseEgressRule() says what is wrong with a rule", () => {
  const cases: [string, RegExp][] = [
    ["", /first label|host name/],
    ["*", /whole first label/],
    ["*.*.example.com", /whole first label/],
    ["a*.example.com", /whole first label/],
    ["*.com", /two labels/],
    ["localhost", /two labels/],
    ["https://example.com", /without a scheme/],
    ["example.com/path", /without a path/],
    ["user@example.com", /without a path, user/],
    ["exa mple.com", /spaces/],
    ["127.0.0.1", /addresses cannot be allowed/],
    ["127.1", /addresses cannot be allowed/],
    ["0x7f.0.0.0x1", /addresses cannot be allowed/],
    ["1.1.1.1:443", /addresses cannot be allowed/],
    ["[::1]:443", /addresses cannot be allowed/],
    ["::1", /addresses cannot be allowed/],
    ["fe80::1%eth0", /addresses cannot be allowed|host name/],
    ["example.com:0", /port must be/],
    ["example.com:65536", /port must be/],
    ["example.com:", /port must be/],
    ["example.com:https", /port must be/],
    ["-a.example.com", /host name/],
    ["a..example.com", /host name/],
    [`${"a".repeat(64)}.example.com`, /host name/],
    [`${"a.".repeat(130)}com`, /host name/],
    ["exam\0ple.com", /host name/],
    ["exam%70le.com", /host name/],
  ];
  for (const [rule, reason] of cases) {
    assert.throws(() => parseEgressRule(rule), (error) => {
      assert.ok(error instanceof EgressRuleError, rule);
      assert.match(error.message, reason, rule);
      return true;
    });
  }
});

Deno.test("a rule without a port holds for 80 and 443, one with a port for that one", () => {
  const rules = policy(["a.example", "b.example:8443"]);
  assert.equal(rules.refusal("a.example", 80), undefined);
  assert.equal(rules.refusal("a.example", 443), undefined);
  assert.equal(rules.refusal("a.example", 22), "not in allow-list; allow with --allow a.example:22");
  assert.equal(rules.refusal("b.example", 8443), undefined);
  assert.equal(rules.refusal("b.example", 443), "not in allow-list; allow with --allow b.example");
  assert.equal(rules.refusal("b.example"), undefined);
  assert.deepEqual(rules.ports, [80, 443, 8443]);
});

Deno.test("a wildcard holds for every depth below a name, and not for the name", () => {
  const rules = policy(["*.example.org"]);
  assert.equal(rules.refusal("a.example.org"), undefined);
  assert.equal(rules.refusal("a.b.c.example.org", 443), undefined);
  for (const name of ["example.org", "badexample.org", "example.org.evil.example", "a.example.com"]) {
    assert.equal(rules.refusal(name), `not in allow-list; allow with --allow ${name}`);
  }
});

Deno.test("a project takes away from what the user allowed, and adds nothing", () => {
  const project = {
    source: "sandbox.toml",
    allow: ["a.example", "evil.example"],
    deny: ["x.a.example", "*.b.example"],
  };
  const rules = policy(["a.example", "b.example", "*.a.example:8443", "*.b.example"], { project });
  assert.equal(rules.refusal("a.example", 443), undefined);
  assert.match(rules.refusal("evil.example", 443) ?? "", /^not in allow-list;/);
  assert.equal(rules.refusal("b.example", 443), "not in the allow-list of sandbox.toml");
  // A denial without a port is for all of them.
  assert.equal(rules.refusal("x.a.example", 8443), "denied by sandbox.toml");
  assert.equal(rules.refusal("c.b.example", 80), "denied by sandbox.toml");
  assert.equal(policy(["a.example"], { project: { source: "f", mode: "none" } }).isOpen, false);
  const none = policy([], { mode: "none", project: { source: "f", mode: "proxy" } });
  assert.equal(none.mode, "none");
});

Deno.test("profiles are rules that can be read, and unknown ones are an error", () => {
  for (const name of Object.keys(EGRESS_PROFILES)) policy([], { profiles: [name] });
  const packages = policy([], { profiles: ["packages"] });
  assert.equal(packages.refusal("registry.npmjs.org", 443), undefined);
  assert.equal(policy([], { profiles: ["model-only"] }).isOpen, false);
  assert.throws(() => policy([], { profiles: ["everything"] }), /known: model-only, packages, git/);
  assert.throws(() => policy([], { profiles: ["__proto__"] }), EgressRuleError);
});

Deno.test("a policy does not take the sandbox's own ports, nor any number of ports or rules", () => {
  assert.throws(() => policy(["a.example:8080"]), /sandbox's own/);
  assert.throws(
    () => policy(Array.from({ length: 20 }, (_, index) => `a.example:${9000 + index}`)),
    /16 different/,
  );
  assert.throws(() => policy(Array<string>(1001).fill("a.example")), /1000/);
});

Deno.test("equal policies have one digest, however they are written, and different ones differ", () => {
  const one = policy(["b.example", "A.example.", "b.example"]);
  assert.equal(one.digest, policy(["a.example", "b.example"]).digest);
  assert.notEqual(one.digest, policy(["a.example"]).digest);
  assert.notEqual(one.digest, policy(["a.example:443", "b.example"]).digest);
  assert.notEqual(one.digest, policy(["a.example", "b.example"], { mode: "none" }).digest);
});

Deno.test("normalizeName() takes host names and nothing else", () => {
  assert.equal(normalizeName("WWW.Example.COM."), "www.example.com");
  for (
    const text of ["", ".", "a", "a.b..", "a b.c", "a.1", "1.2.3.4", "a.0x1", "é.example", "a.\0.b", "a.b\n"]
  ) {
    assert.equal(normalizeName(text), undefined, JSON.stringify(text));
  }
});
