/**
 * Node's built-in modules where a thread seldom needs them: an `import` of any of them costs each thread that loads it
 * 1 to 3 MiB and some milliseconds of its start.
 *
 * @module
 */

interface NodeModules {
  readonly "node:worker_threads": {
    receiveMessageOnPort(port: MessagePort): { readonly message: unknown } | undefined;
  };
  readonly "node:zlib": {
    inflateRawSync(
      bytes: Uint8Array<ArrayBuffer>,
      options: { readonly maxOutputLength: number },
    ): Uint8Array<ArrayBuffer>;
  };
}

/** Loads a module, synchronously, when it is first asked for. */
export function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] {
  const { process } = globalThis as unknown as {
    process: { getBuiltinModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] };
  };
  return process.getBuiltinModule(name);
}
