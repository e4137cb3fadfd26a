// Numbers and names of a report as text for the page: escaping, and units chosen for reading. Every string that came from a
// model, a client or a driver passes through `escapeHtml` (the tag `html` does it for every value that is not Markup).

/** Text that is HTML already. Made only by `html` and `raw`. */
export class Markup {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  toString(): string {
    return this.text
  }
}

type Piece = string | number | null | undefined | Markup | readonly Markup[]

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** Control, format and bidirectional characters, which could make a name look like another, become visible escapes. */
const INVISIBLE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

export function escapeHtml(text: string): string {
  const visible = text.replace(INVISIBLE, (c) => {
    return c === '\n' ? c : `\\u${c.codePointAt(0)!.toString(16).padStart(4, '0')}`
  })
  return visible.replace(/[&<>"']/g, (c) => ENTITIES[c]!)
}

/** Template tag: values are escaped unless they are Markup; null and undefined give nothing. */
export function html(strings: TemplateStringsArray, ...values: Piece[]): Markup {
  let text = strings[0]!
  for (const [index, value] of values.entries()) text += piece(value) + strings[index + 1]!
  return new Markup(text)
}

function piece(value: Piece): string {
  if (value === null || value === undefined) return ''
  if (value instanceof Markup) return value.text
  if (typeof value === 'string') return escapeHtml(value)
  return typeof value === 'number' ? String(value) : value.map((item) => item.text).join('')
}

export const NOTHING = new Markup('')

/** 1234567 -> '1.18 MiB'; bytes below 1 KiB stay bytes. */
export function bytesText(bytes: number | null): string {
  if (bytes === null) return 'not measured'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : threeDigits(value)} ${units[unit]}`
}

/** 0.2534 -> '25.3 %'. */
export function percentText(share: number | null, digits = 1): string {
  return share === null ? '-' : `${(100 * share).toFixed(digits)} %`
}

/** Up to four significant digits, without exponent where that stays readable. */
export function numberText(value: number | null, digits = 4): string {
  if (value === null) return '-'
  if (value === 0) return '0'
  const magnitude = Math.abs(value)
  if (magnitude < 1e-4 || magnitude >= 1e7) return value.toExponential(2)
  return String(Number(value.toPrecision(digits)))
}

/** With sign, for differences. */
export function signedText(value: number, digits = 4): string {
  return `${value > 0 ? '+' : value < 0 ? '−' : '±'}${numberText(Math.abs(value), digits)}`
}

export function intervalText(ci95: [number, number] | null, text: (value: number) => string): string {
  return ci95 === null ? '' : `${text(ci95[0])} to ${text(ci95[1])}`
}

export function secondsText(seconds: number): string {
  if (seconds < 1) return `${threeDigits(seconds * 1000)} ms`
  return seconds < 120 ? `${threeDigits(seconds)} s` : `${threeDigits(seconds / 60)} min`
}

export function threeDigits(value: number): string {
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)))
}

export function countText(count: number): string {
  return count.toLocaleString('en-US').replaceAll(',', ' ')
}

export function plural(count: number, noun: string): string {
  return `${countText(count)} ${noun}${count === 1 ? '' : 's'}`
}
