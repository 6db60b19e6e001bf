/**
 * Cuts bytes off the front of a list of views.
 *
 * @module
 */

type View = Uint8Array<ArrayBuffer>;

/** Walks a list of views from front to back, in pieces of any size. */
export class ViewCursor {
  readonly #views: readonly View[];
  #index = 0;
  #offset = 0;

  constructor(views: readonly View[]) {
    this.#views = views;
  }

  /** Bytes of all views. */
  get totalBytes(): number {
    return this.#views.reduce((sum, view) => sum + view.byteLength, 0);
  }

  /** Views of the next `sizeBytes`. */
  take(sizeBytes: number): View[] {
    const taken: View[] = [];
    let left = sizeBytes;
    while (left > 0) {
      const view = this.#views[this.#index];
      if (view === undefined) throw new RangeError(`Cannot take ${left} bytes more than there are`);
      const count = Math.min(left, view.byteLength - this.#offset);
      if (count > 0) taken.push(view.subarray(this.#offset, this.#offset + count));
      left -= count;
      this.#offset += count;
      if (this.#offset === view.byteLength) {
        this.#index++;
        this.#offset = 0;
      }
    }
    return taken;
  }
}
