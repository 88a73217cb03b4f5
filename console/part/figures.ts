// How numbers are written, everywhere the same: enough digits to compare, no more.

export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

export const rate = (value: number): string => (value >= 10 ? whole(value) : value === 0 ? "0" : value.toFixed(1));

/** Milliseconds, without the unit. */
export const ms = (value: number): string =>
  value === 0 ? "0" : value >= 100 ? whole(value) : value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);

export const percent = (share: number): string => `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** Of counts that run into thousands, for a card. */
export const short = (value: number): string =>
  value >= 10_000 ? `${Math.round(value / 1_000)}k` : value >= 1_000 ? `${(value / 1_000).toFixed(1)}k` : whole(value);

export const bytes = (value: number): string =>
  value >= 1 << 30 ? `${(value / (1 << 30)).toFixed(2)} GiB` : value >= 1 << 20 ? `${(value / (1 << 20)).toFixed(1)} MiB` : `${Math.ceil(value / 1024)} KiB`;

export const signed = (value: number): string => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) >= 10 ? 1 : 2)}`;

export function duration(milliseconds: number): string {
  const s = Math.max(0, Math.round(milliseconds / 1_000));
  if (s < 120) return `${s} s`;
  if (s < 7_200) return `${Math.round(s / 60)} min`;
  return `${(s / 3_600).toFixed(1)} h`;
}

/** The probability of a logit. */
export const sigmoid = (logit: number): number => 1 / (1 + Math.exp(-logit));
