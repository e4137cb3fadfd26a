// Numbers and tables as the terminal shows them. Units are binary (1 KiB = 1024 bytes); names from model files are made safe.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** 1536 -> "1.5 KiB". */
export function bytesText(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(value >= 100 ? 0 : 1)} ${UNITS[unit]}`
}

/** 0.2534 -> "25.3 %". */
export function percentText(fraction: number): string {
  return `${(fraction * 100).toFixed(1)} %`
}

/** 75.3 -> "1 min 15 s"; below a minute with one decimal. */
export function secondsText(seconds: number): string {
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`
}

/** Adapter and driver; the reference device has no driver. */
export function deviceText(adapter: string | null, driver: string | null): string {
  return driver ? `${adapter} (${driver})` : `${adapter} device`
}

/** [64, 3, 7, 7] -> "64x3x7x7"; a scalar is "scalar". */
export function shapeText(shape: readonly (number | string)[]): string {
  return shape.length === 0 ? 'scalar' : shape.map(printable).join('x')
}

/** Control characters would let a file name or tensor name steer the terminal: they are shown as U+FFFD. */
export function printable(text: number | string): string {
  return String(text).replaceAll(/[\p{Cc}\p{Bidi_C}]/gu, '\ufffd')
}

export interface Column {
  title: string
  align?: 'left' | 'right'
  /** Longer cells are cut in the middle, so that both ends of a path-like name stay readable. */
  maxWidth?: number
}

/** Lines of a table with a header, two spaces between columns, no trailing spaces. */
export function tableLines(columns: readonly Column[], rows: readonly string[][]): string[] {
  const cut = rows.map((row) => row.map((cell, index) => shorten(printable(cell), columns[index]!.maxWidth)))
  const widths = columns.map(({ title }, index) => Math.max(title.length, ...cut.map((row) => row[index]!.length)))
  return [columns.map(({ title }) => title), ...cut].map((row) =>
    row
      .map((cell, index) =>
        columns[index]!.align === 'right' ? cell.padStart(widths[index]!) : cell.padEnd(widths[index]!),
      )
      .join('  ')
      .trimEnd(),
  )
}

function shorten(text: string, maxWidth = Number.POSITIVE_INFINITY): string {
  if (text.length <= maxWidth) return text
  const head = Math.ceil((maxWidth - 3) / 2)
  return `${text.slice(0, head)}...${text.slice(text.length - (maxWidth - 3 - head))}`
}
