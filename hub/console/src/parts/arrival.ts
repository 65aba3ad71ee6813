// Where the focus goes when the reader comes to a page: to its title. Only in a document just opened does it stay where
// the browser put it, before the skip link.

let opened = false;

/** Call it once a page; `always`: where the reader has something to type first. */
export function arrive(element: HTMLElement | null, always = false): void {
  if (opened || always) element?.focus({ preventScroll: true });
  opened = true;
}
