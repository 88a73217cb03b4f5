// Small choices kept in the browser (localStorage). Where it is switched off, a choice lasts as long as the page.

const prefix = "millrace.";

export function kept(name: string): string | undefined {
  try {
    return localStorage.getItem(prefix + name) ?? undefined;
  } catch {
    return undefined;
  }
}

export function keep(name: string, value: string): string {
  try {
    localStorage.setItem(prefix + name, value);
  } catch {
    // Not kept.
  }
  return value;
}
