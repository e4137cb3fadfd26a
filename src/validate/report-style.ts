// The style sheet of the report page: one column of cards, light and dark, phone and print. Colours are named by meaning.

export const REPORT_STYLE = `
:root { color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #16202b; --soft: #5b6875; --line: #dde3e9; --code: #eef1f5;
  --before: #8b98a7; --after: #1769d2; --zero: #d9822b; --good: #1a7f4b; --bad: #c0322b; --warn: #9a6700;
  --good-bg: #e3f5ea; --bad-bg: #fdeae8; --warn-bg: #fdf3d7; --plain-bg: #e8edf3; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0f141a; --card: #171e26; --ink: #e6ebf0; --soft: #9aa7b4; --line: #2b3641; --code: #202a34;
  --before: #77869a; --after: #5aa2f7; --zero: #e8a357; --good: #57c98a; --bad: #ff8177; --warn: #e3b341;
  --good-bg: #12301f; --bad-bg: #3b1a18; --warn-bg: #332a10; --plain-bg: #222c37; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 60px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-bottom: 16px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 12px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 8px; }
.soft, caption, .axis { color: var(--soft); }
.brand { font-weight: 700; letter-spacing: .02em; color: var(--after); }
section, .verdict { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-top: 16px; }
.verdict { border-left: 6px solid var(--soft); background: var(--plain-bg); }
.verdict b { display: block; font-size: 19px; margin-bottom: 2px; }
.verdict.plain { border-left-color: var(--after); }
.verdict.good { border-left-color: var(--good); background: var(--good-bg); } .verdict.good b { color: var(--good); }
.verdict.bad { border-left-color: var(--bad); background: var(--bad-bg); } .verdict.bad b { color: var(--bad); }
.verdict.warn { border-left-color: var(--warn); background: var(--warn-bg); } .verdict.warn b { color: var(--warn); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 12px; margin-top: 16px; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.figure b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.figure span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; margin: 8px -4px; padding: 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 170px; }
table.tensors td.name { width: 20%; }
td.name small { display: block; color: var(--soft); }
tr:last-child td { border-bottom: 0; }
.ok { color: var(--good); font-weight: 600; } .no { color: var(--bad); font-weight: 600; }
.pill { display: inline-block; border-radius: 9px; padding: 0 8px; font-size: 12px; background: var(--plain-bg); color: var(--soft); white-space: nowrap; }
.pill.on { background: var(--after); color: var(--card); }
code, pre { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--code); border-radius: 4px; }
code { padding: 1px 4px; overflow-wrap: anywhere; }
pre { padding: 10px 12px; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; margin: 6px 0 10px; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--after); }
ul { margin: 6px 0 0; padding-left: 20px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
svg .strong { fill: var(--ink); font-weight: 600; }
.f-before { fill: var(--before); } .f-after { fill: var(--after); } .f-zero { fill: var(--zero); }
.s-before { stroke: var(--before); } .s-after { stroke: var(--after); } .s-line { stroke: var(--line); }
.bars { margin: 4px 0 12px; }
.bar { display: grid; grid-template-columns: 112px 1fr 150px; gap: 12px; align-items: center; margin: 7px 0; }
.bar i { display: block; height: 20px; min-width: 2px; border-radius: 3px; background: var(--before); }
.bar i.after { background: var(--after); } .bar em { font-style: normal; color: var(--soft); font-variant-numeric: tabular-nums; }
svg.wide { min-width: 540px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 18px 24px; }
.chart p { margin: 0; font-size: 13px; overflow-wrap: anywhere; }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 16px; color: var(--soft); font-size: 13px; }
.key i { width: 12px; height: 12px; border-radius: 3px; display: inline-block; background: var(--before); }
.key i.after { background: var(--after); } .key i.zero { background: var(--zero); opacity: .55; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 0 32px; }
.confusion td, .confusion th { text-align: right; padding: 2px 6px; border: 1px solid var(--line); font-size: 12px; }
.confusion .hit { background: var(--good-bg); } .confusion .miss { background: var(--bad-bg); }
@media (max-width: 560px) { main { padding: 16px 12px 40px; } section, .verdict { padding: 14px; } .figure b { font-size: 19px; }
  .bar { grid-template-columns: 1fr auto; gap: 2px 8px; } .bar span { grid-column: 1 / -1; grid-row: 2; } }
@media print { * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } body { background: #fff; font-size: 12px; } main { max-width: none; padding: 0; }
  section, .verdict, .figure { break-inside: avoid; border-color: #bbb; } section.long { break-inside: auto; } .scroll { overflow: visible; } }
`
