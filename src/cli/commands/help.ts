/**
 * `sandbox help`.
 *
 * @module
 */

/** The text of the help. */
export const HELP = `Paddock runs coding agents in throwaway KVM microVMs.

  sandbox run AGENT [PROMPT] [options] run an agent on a task in a fresh VM; without a prompt, on a terminal, the
                                       agent's own user interface
      --repo DIR               folder to copy in as /workspace (a git repository: tracked and new files)
      --repo URL#BRANCH        repository to clone on this machine, with its git's credentials (https, ssh, file, git)
      --apply                  put the result on a new branch of DIR's repository, after showing what changes
      --branch NAME            that branch (default paddock/ID)
      --yes                    apply without asking
      --out DIR                folder for the results (default paddock-result-ID in the current folder)
      --bundle FILE.tar        one archive with the results (without --out, in place of the folder)
      --model NAME             model to use (default: the agent's own)
      --memory SIZE            guest memory, 512M or 4G (default: the agent's own)
      --cpus N                 number of virtual CPUs (default 1)
      --timeout DURATION       longest run of the agent, 90s, 15m or 2h (default 30m)
      --model-url URL          base URL of the model's API, ending in /v1 (default: the provider's)
      --model-idle-timeout D   longest silence of the model's API (default 5m)
      --login                  use the login of the agent's own client on this machine even where there is a key
      --max-tokens N           most tokens that the model may use, input and output together
      --max-cost USD           most that the model may cost, 5 or 0.25; by the prices that are known of it
      --prices FILE            prices of models, in TOML (default ~/.config/paddock/prices.toml, if it is there)
      --allow RULE             let the agent reach a host too: name, *.name (all below it), name:PORT (default 80, 443)
      --profile NAME           let it reach the hosts of a profile: packages, git, model-only (none)
      --network MODE           proxy (default: allowed names only), none (its model only, no names), or nat (every
                               public address; not this machine, its neighbours or metadata)
      --keep                   keep the session: its VM goes on, for the commands below
      --publish HOST:GUEST     lead a port of 127.0.0.1 to one of the VM's while it runs (several times)
      --json                   print events as JSON, one a line
      --demo                   use the scripted model that comes with Paddock: needs no key
      --install                install missing packages without asking
      --alpine-rootfs FILE     build the image from this Alpine root archive
    AGENT is one of those that sandbox agents lists. The key of the model's API is read from the agent's variable
    (sandbox agents names it), else the login of its own client is used; neither ever enters the VM. For the agent
    shell, PROMPT is a shell command: sandbox run shell "make test" --repo .
    A sandbox.toml in the folder takes away from what is allowed: [network] with mode, allow, profiles, deny.
    Results: result.json, changes.patch, patches/, files/, transcript.jsonl (see sandbox help events), raw.jsonl, network.jsonl,
    console.log, workspace.tar.

  sandbox agents [--json]              the agents that there are, with versions and what they need
  sandbox images list [--json]         the images that were built, with versions, sizes and ages
  sandbox images build AGENT…          build what is missing now, rather than at the first run
  sandbox images update [AGENT…]       rebuild at the newest published version; it is used once it has run in a VM
      --to VERSION             take this version (of one agent)
      --pinned                 go back to the version that Paddock was made with
  sandbox images remove AGENT…         delete an agent's images; the next run builds one again

  sandbox start [AGENT]                a session of a service, without a task; prints its id (without AGENT: shell)
      --ttl DURATION           how long it lives (default 1h, at most 24h)
      --repo, --memory, --cpus, --network, --allow, --profile, --env, --label, --json: as for a task
  sandbox ls [--json]                  the sessions that were kept or started, and those that tasks run in
  sandbox shell SESSION                a shell in it (--user root, --cwd DIR, --env NAME=VALUE)
  sandbox exec SESSION -- CMD …        a command in it, with the same options; -t gives it this terminal
  sandbox cp FROM TO                   copy files; one of the two is SESSION:PATH
  sandbox publish SESSION HOST:GUEST…  lead ports of 127.0.0.1 to ports of its guest until Ctrl-C
  sandbox logs SESSION [--network]     what its guest printed last, or its network journal since it is kept
  sandbox pause|resume SESSION…        stop its CPUs; let them go on
  sandbox stop SESSION…                power it off; its disk stays
  sandbox rm SESSION…                  end it, and remove its disk

  sandbox task submit AGENT PROMPT     let a service run a task, and print its id (options as for run: --repo, --model, --memory,
                                       --cpus, --timeout, --max-tokens, --max-cost, --allow, --profile, --network, --keep)
      --label NAME:VALUE       to find it by (several times)
      --env NAME=VALUE         variable for the agent; it is stored: no place for secrets (several times)
      --priority N             -100 to 100: among your own tasks the higher ones go first
      --retry N                how often it is started anew when the server or its VM ended while it ran
      --webhook URL            told of its end by a signed POST
      --idempotency-key KEY    the same task again, and not a second one, if it was submitted already
      --watch                  follow it to its end, with its exit code
      --from FILE [--parallel N]  submit all tasks of a file, a JSON object a line (- is stdin)
  sandbox task list [--state S,…] [--label NAME:VALUE] [--agent A] [--limit N] [--json]
  sandbox task show|watch TASK [--json]
  sandbox task result TASK [--out DIR] [--bundle FILE.tar] [--json]
  sandbox task cancel|rm TASK…         end it; rm forgets it with its files, too

  sandbox serve [--listen ADDRESS:PORT] run the service (default 127.0.0.1:8080); others take its tasks from there
      --max-vms N              VMs at once (default 8); further tasks wait
      --max-memory SIZE        RAM of these VMs together (default three quarters of this machine's)
      --tls-cert FILE --tls-key FILE
                               certificate and key in PEM; beyond loopback the service takes these, and a token
      --behind-proxy           in place of TLS: a proxy does it, and says in X-Forwarded-For who asks
      --host NAME              name that leads here, where that is not an address of loopback (several times)
      --state DIR              folder of its tasks and tokens (default PADDOCK_STATE)
      --retain TIME            how long tasks that are over are kept, 30d or 12h (default: until they are removed)
      --drain DURATION         how long tasks that run may go on after SIGTERM, 10m (default: they end with it)
      --log-format text|json   one line a request on stderr (default: text on a terminal)
    The keys of models' APIs in its environment, and logins, are used by tasks that bring none and name no model URL.

  sandbox mcp                          a server of the Model Context Protocol on stdin and stdout, for other agents; its
                                       tools run tasks and sessions of the service

  sandbox token create NAME            make a token for the service; it is printed this once
      --scope SCOPE            tasks:read, tasks:write, sessions:read, sessions:write, metrics:read, admin (several times;
                               default: the first four). admin sees what all tokens own, others only what they own
      --expires TIME           30d, 12h or never (default 90d)
      --rate N                 requests a minute, 600/min or 10/s
      --max-active N           its tasks and sessions that may wait or run at once
  sandbox token list [--json]          the tokens that there are
  sandbox token revoke TOKEN           refuse it from now on (--state DIR: in another state folder)

  sandbox boot -k KERNEL [-i INITRD] [-d DISK]… [-t TAP] [-m MEMORY] [-a CMDLINE]
                                       boot a kernel with its serial console here; Ctrl-A Ctrl-C quits
                                       (without -a: the serial console, and the first disk as root)
      --cpus N                 number of virtual CPUs (default 1)
      --disk-rate SIZE         bytes a second that each disk is held to, 4M or 512K
      --disk-iops N            requests a second that each disk is held to
      --net-rate SIZE          bytes a second that the network is held to, both directions together
      --net-pps N              packets a second that the network is held to
      --console WHAT           serial (default), or virtio: faster, and follows the window's size
      --on-reboot WHAT         when the guest reboots: exit (default), or restart it with the same files
      --grace DURATION         how long the guest may take to power off when asked to (default 10s)
      --timings                say at the end how long each phase of the boot took
    A bzImage finds its devices by ACPI, an ELF kernel by words that are added to its command line;
    acpi=off or acpi=on in CMDLINE changes that. A bzImage that was built without ACPI or PCI needs acpi=off.
  sandbox host status|start|stop       the emulated KVM host, used where this machine's KVM is not whole
  sandbox host exec -- CMD …           run a command in it
  sandbox doctor [--json] [--install]  what works here, what is missing, what would fix it
  sandbox help                         this text
  sandbox help events [--json]         what the lines of transcript.jsonl mean (as a JSON Schema)

Exit codes: 0 done, 1 agent failed, 2 bad usage, 3 boot or host failed, 4 time limit reached, 5 budget used up,
130 interrupted.
run, task, start, ls, shell, exec, cp, publish, logs, pause, resume, stop and rm take --server URL and --token TOKEN (or
PADDOCK_SERVER and PADDOCK_API_TOKEN): then they use that service; task and start use this machine's own where none is named.
Environment: PADDOCK_HOST (native, emulated, auto), PADDOCK_CACHE, PADDOCK_STATE, NO_COLOR.`;

/** Prints the help, or what the lines of a transcript mean. */
export async function help(args: readonly string[]): Promise<number> {
  const [topic, ...rest] = args;
  if (topic !== "events") {
    console.log(HELP);
    return 0;
  }
  const { eventHelp, eventSchemaText } = await import("../../local/event_help.ts");
  console.log(rest.includes("--json") ? eventSchemaText() : eventHelp());
  return 0;
}
