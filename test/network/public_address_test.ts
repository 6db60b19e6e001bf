import assert from "node:assert/strict";
import { addressRefusal } from "../../src/network/public_address.ts";

Deno.test("addressRefusal() lets public addresses through", () => {
  for (
    const address of [
      "1.1.1.1",
      "93.184.216.34",
      "172.15.255.255",
      "172.32.0.1",
      "100.63.255.255",
      "100.128.0.1",
    ]
  ) {
    assert.equal(addressRefusal(address), undefined, address);
  }
  for (const address of ["2606:4700:4700::1111", "2a00:1450:4001:82a::200e", "2001:4860:4860::8888"]) {
    assert.equal(addressRefusal(address), undefined, address);
  }
});

Deno.test("addressRefusal() refuses what is the host, its neighbours or a cloud's metadata", () => {
  const inside = [
    ..."0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1".split(" "),
    ..."169.254.0.1 169.254.169.254 169.254.170.2 168.63.129.16 172.16.0.1 172.30.0.1 172.31.255.255".split(
      " ",
    ),
    ..."192.0.0.192 192.168.1.1 198.18.0.1 198.19.255.255 224.0.0.251 239.255.255.250 240.0.0.1".split(" "),
    ..."255.255.255.255 192.88.99.1".split(" "),
    ...":: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:7f00:1 ::127.0.0.1 64:ff9b::10.0.0.1".split(" "),
    ..."64:ff9b:1::1 100::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1".split(" "),
    ..."2001::1 2001:0:1::1 2002:7f00:1::1 2002:a00:1::".split(" "),
  ];
  for (const address of inside) assert.ok(addressRefusal(address) !== undefined, address);
});

Deno.test("addressRefusal() refuses what is not an address", () => {
  const texts = [
    ..."1.1.1 1.1.1.1.1 1.1.1.256 01.1.1.1 0x1.1.1.1 1.1.1.1:80 :1 1:: :: 2001:::1 2606::1::1".split(" "),
    ..."2606:4700:4700::1111%eth0 [2606:4700::1] 2606:4700:1:2:3:4:5:6:7 2606:47001::1 example.com".split(
      " ",
    ),
    "",
    "2606::1.1.1",
  ];
  for (const text of texts) assert.ok(addressRefusal(text) !== undefined, JSON.stringify(text));
});
