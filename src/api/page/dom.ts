/**
 * Makes elements. Text only ever becomes text: what tasks say is never markup.
 *
 * @module
 */

/** What an element may contain. */
export type Child = Node | string | undefined;

/** An element with attributes (`on…` are listeners) and children. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string | boolean | ((event: Event) => void)>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** Replaces all that is in an element. */
export function fill(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren(...children.filter((child) => child !== undefined));
}

/** The element of the page with this id. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`The page has no "${id}"`);
  return element;
}

/** A time for people. */
export function shownTime(iso: string | null): string {
  return iso === null ? "" : new Date(iso).toLocaleString();
}
