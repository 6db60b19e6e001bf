/**
 * What a long preparation tells whoever waits for it.
 *
 * @module
 */

/** One report. `step` is a short name that ties `step`, `progress` and `done` together. */
export type ProgressEvent =
  | {
    readonly type: "step";
    readonly step: string;
    readonly message: string;
    /** position among the steps of this preparation, from 1 */
    readonly index: number;
    readonly count: number;
  }
  | {
    readonly type: "progress";
    readonly step: string;
    readonly done: number;
    readonly total?: number;
    readonly unit: "bytes" | "lines" | "files";
  }
  | { readonly type: "done"; readonly step: string; readonly ms: number }
  | { readonly type: "notice"; readonly message: string };

/** Where reports go. */
export type OnProgress = (event: ProgressEvent) => void;
