/**
 * What a guest sends to the name server and to the proxy.
 *
 * @module
 */

import { parseClientHello } from "../../src/network/client_hello.ts";
import { EgressPolicy } from "../../src/network/egress_policy.ts";
import { encodeRequestHead, parseRequestHead } from "../../src/network/http_head.ts";
import { NameServer } from "../../src/network/name_server.ts";
import { clientHello, dnsQuery, serverName } from "../support/wire_messages.ts";
import type { FuzzTarget } from "./fuzzer.ts";

const bytes = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(text, (one) => one.charCodeAt(0));

/** DNS queries: every answer is a response to its query, and only the allowed name has an address. */
function dnsTarget(): FuzzTarget {
  const policy = new EgressPolicy({ mode: "proxy", allow: ["api.example.com"], profiles: [] });
  const wanted = dnsQuery("api.example.com", 1);
  return {
    name: "dns",
    corpus: [wanted, dnsQuery("a.b.c.example.net", 28), dnsQuery("", 255)],
    run: (input) => {
      let host = "";
      // A new server for each query: one would soon see a flood.
      const answer = new NameServer({ policy, onDecision: (decision) => host = decision.host }).answer(input);
      if (answer === undefined) return "none";
      if (answer[0] !== input[0] || answer[1] !== input[1] || ((answer[2] ?? 0) & 0x80) === 0) {
        throw new Error("not a response to its query");
      }
      if (/[^\x21-\x7e]/.test(host)) throw new Error(`not printable: ${host}`);
      const hasAddress = answer[7] === 1;
      const asked = new TextDecoder().decode(input.subarray(12, 30)).toLowerCase();
      if (hasAddress && !asked.startsWith("\x03api\x07example\x03com")) {
        throw new Error("an address for another name");
      }
      return `${(answer[3] ?? 0) & 15} ${hasAddress}`;
    },
  };
}

/** ClientHellos: reading more bytes never changes what was read from fewer. */
function clientHelloTarget(): FuzzTarget {
  return {
    name: "client-hello",
    corpus: [
      clientHello([serverName("api.example.com"), { type: 43, content: [2, 3, 4] }]),
      clientHello([{ type: 0xfe0d, content: [0] }, serverName("a.example")], 40),
    ],
    run: (input) => {
      const whole = parseClientHello(input);
      if (whole.kind === "hello") {
        const longer = parseClientHello(Uint8Array.from([...input, 23, 3, 3, 0, 1, 0]));
        if (JSON.stringify(longer) !== JSON.stringify(whole)) {
          throw new Error("what follows changed its name");
        }
      }
      return whole.kind === "hello"
        ? `hello ${whole.isEncrypted} ${whole.serverName?.length}`
        : JSON.stringify(whole);
    },
  };
}

/** HTTP heads: what is sent on reads as the same request for the same host, and as one only. */
function httpHeadTarget(): FuzzTarget {
  return {
    name: "http-head",
    corpus: [
      bytes("GET /a?b HTTP/1.1\r\nHost: api.example.com:80\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"),
      bytes("POST http://a.example/x HTTP/1.0\r\nHost: a.example\r\nContent-Length: 12\r\n\r\nhello"),
      bytes("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Connection: close\r\n\r\n"),
    ],
    run: (input) => {
      const parsed = parseRequestHead(input);
      if (parsed.kind !== "head") {
        return parsed.kind === "bad" ? parsed.reason.replace(/ [^ ]+\..*/, "") : parsed.kind;
      }
      const { head } = parsed;
      if (head.tunnel !== undefined) return `tunnel ${head.tunnel.port}`;
      const sent = encodeRequestHead(head);
      const again = parseRequestHead(sent);
      if (again.kind !== "head" || again.head.headBytes !== sent.length) {
        throw new Error("sent on as another request");
      }
      if (JSON.stringify(again.head.authority) !== JSON.stringify(head.authority)) {
        throw new Error("sent on to another host");
      }
      return `head ${head.method.length} ${head.headers.length} ${head.isAbsolute}`;
    },
  };
}

/** The targets of this file. */
export function networkTargets(): FuzzTarget[] {
  return [dnsTarget(), clientHelloTarget(), httpHeadTarget()];
}
