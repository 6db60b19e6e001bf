/**
 * C structures for cold paths (ioctl arguments): explicit offsets and sizes, checked at load for overlap and
 * alignment, and against the C compiler by `test/abi_test.ts`. Hot structures have a class over one `DataView`.
 *
 * @module
 */

/** How one field is read and written, and where it stands. */
export interface Field<T> {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly align: number;
  get(view: DataView): T;
  set(view: DataView, value: T): void;
}

type Fields = Readonly<Record<string, Field<unknown>>>;

/** Values of all fields of a structure. */
export type ValuesOf<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** A structure: its C name, its size, and its codec. */
export interface Struct<F extends Fields> {
  readonly cName: string;
  readonly sizeBytes: number;
  readonly fields: F;
  /** New bytes with the given fields; the others are zero. */
  encode(values: Partial<ValuesOf<F>>): Uint8Array<ArrayBuffer>;
  /** All fields of `bytes`, which holds the structure from its start. */
  decode(bytes: Uint8Array): ValuesOf<F>;
  /** Overwrites the given fields inside `bytes`. */
  update(bytes: Uint8Array, values: Partial<ValuesOf<F>>): void;
}

/** An unsigned 8-bit field. */
export function u8(offset: number): Field<number> {
  return {
    offset,
    sizeBytes: 1,
    align: 1,
    get: (view) => view.getUint8(offset),
    set: (view, value) => view.setUint8(offset, value),
  };
}

/** An unsigned 16-bit field. */
export function u16(offset: number): Field<number> {
  return {
    offset,
    sizeBytes: 2,
    align: 2,
    get: (view) => view.getUint16(offset, true),
    set: (view, value) => view.setUint16(offset, value, true),
  };
}

/** An unsigned 32-bit field. */
export function u32(offset: number): Field<number> {
  return {
    offset,
    sizeBytes: 4,
    align: 4,
    get: (view) => view.getUint32(offset, true),
    set: (view, value) => view.setUint32(offset, value, true),
  };
}

/** An unsigned 64-bit field. */
export function u64(offset: number): Field<bigint> {
  return {
    offset,
    sizeBytes: 8,
    align: 8,
    get: (view) => view.getBigUint64(offset, true),
    set: (view, value) => view.setBigUint64(offset, value, true),
  };
}

/** A structure inside a structure. */
export function nested<F extends Fields>(offset: number, inner: Struct<F>): Field<Partial<ValuesOf<F>>> {
  const part = (view: DataView): Uint8Array =>
    new Uint8Array(view.buffer, view.byteOffset + offset, inner.sizeBytes);
  return {
    offset,
    sizeBytes: inner.sizeBytes,
    align: Math.max(...Object.values(inner.fields).map((field) => field.align)),
    get: (view) => inner.decode(part(view)),
    set: (view, value) => inner.update(part(view), value),
  };
}

/**
 * Declares a C structure.
 *
 * @throws {RangeError} at load, if fields overlap, are misaligned or pass the end
 */
export function struct<F extends Fields>(cName: string, sizeBytes: number, fields: F): Struct<F> {
  let end = 0;
  for (const [name, field] of Object.entries(fields).sort(([, a], [, b]) => a.offset - b.offset)) {
    if (field.offset % field.align !== 0) throw new RangeError(`Cannot lay out ${cName}.${name}: misaligned`);
    if (field.offset < end) {
      throw new RangeError(`Cannot lay out ${cName}.${name}: overlaps the field before`);
    }
    end = field.offset + field.sizeBytes;
  }
  if (end > sizeBytes) throw new RangeError(`Cannot lay out ${cName}: fields end at ${end} of ${sizeBytes}`);

  const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, sizeBytes);
  function update(bytes: Uint8Array, values: Partial<ValuesOf<F>>): void {
    const view = viewOf(bytes);
    for (const [name, value] of Object.entries(values)) {
      if (value !== undefined) fields[name]?.set(view, value);
    }
  }
  return {
    cName,
    sizeBytes,
    fields,
    update,
    encode(values): Uint8Array<ArrayBuffer> {
      const bytes = new Uint8Array(sizeBytes);
      update(bytes, values);
      return bytes;
    },
    decode(bytes): ValuesOf<F> {
      const view = viewOf(bytes);
      const entries = Object.entries(fields).map(([name, field]) => [name, field.get(view)]);
      return Object.fromEntries(entries) as ValuesOf<F>;
    },
  };
}
