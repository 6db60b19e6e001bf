import { checkDemo } from "../support/agent_demo.ts";

// Its start alone takes ten seconds of a CPU, and many minutes of an emulated one: it has a file, and so a limit, of its own
Deno.test("openclaw works on a repository, and its patch holds what it did there", () =>
  checkDemo({ name: "openclaw", tool: "exec", args: ["--timeout", "20m", "--cpus", "2"] }));
