"""The style sheet of a page: light and dark, wide and narrow, screen and paper."""

from __future__ import annotations

LIGHT = """
--page:#f6f7f9;--card:#fff;--ink:#1c2430;--soft:#52606d;--line:#dfe4ea;--grid:#e3e8ed;--shade:#f0f4f8;--axis:#8a94a0;
--pass:#17723f;--pass-soft:#e4f4ea;--fail:#b3261e;--fail-soft:#fdeceb;--open:#8a5a00;--open-soft:#fdf3dc;
--c0:#0b62b8;--c1:#b3500a;--c2:#0d7f5f;--c3:#8a3aa8;--c4:#6b6b12;--c5:#b0305c;
--good:#2f8f5b;--fair:#d99a17;--bad:#c8352f;--none:#4a4f57;--bound:#c22f2f"""
DARK = """
--page:#12161c;--card:#1a2028;--ink:#e8edf3;--soft:#a3b0bf;--line:#303945;--grid:#2a323d;--shade:#202832;--axis:#66727f;
--pass:#6fd89b;--pass-soft:#15301f;--fail:#ff9088;--fail-soft:#3a1a1a;--open:#f2c565;--open-soft:#352a12;
--c0:#6db3ff;--c1:#ffb169;--c2:#5fd3ac;--c3:#d49bf0;--c4:#d8cf6a;--c5:#ff8fb1;
--good:#48b87c;--fair:#e8b544;--bad:#f0685f;--none:#aab3bf;--bound:#ff7b72"""
PAGE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
header,main,footer{max-width:1240px;margin:0 auto;padding:0 24px}
header{padding-top:28px}
h1{font-size:1rem;font-weight:600;color:var(--soft);margin:0 0 12px}
h2{font-size:1.3rem;line-height:1.3;margin:44px 0 12px;scroll-margin-top:12px}
h3{font-size:1.08rem;margin:30px 0 10px}
p{margin:8px 0;max-width:78ch;overflow-wrap:anywhere}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
a{color:var(--c0)}
.verdict{display:flex;gap:18px;align-items:center;padding:20px 24px;border-radius:12px;border:1px solid;
border-left-width:8px}
.verdict svg{flex:none;width:52px;height:52px}
.verdict p{margin:0}
.verdict .word{font-size:1.7rem;font-weight:700;line-height:1.2}
.verdict.pass{background:var(--pass-soft);border-color:var(--pass)}
.verdict.fail{background:var(--fail-soft);border-color:var(--fail)}
.verdict.not_measured{background:var(--open-soft);border-color:var(--open)}
.pass .word,.o.pass{color:var(--pass)}
.fail .word,.o.fail{color:var(--fail)}
.not_measured .word,.o.not_measured{color:var(--open)}
.icon.pass{fill:var(--pass)}.icon.fail{fill:var(--fail)}.icon.not_measured{fill:var(--open)}
.icon path+path{stroke:var(--card);fill:none}
nav{margin:18px 0 0}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:0;padding:0;font-size:.92rem}
dl{display:flex;flex-wrap:wrap;gap:12px 40px;margin:20px 0 0}
dt{font-size:.82rem;color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
main ul.said{max-width:90ch;padding-left:1.2em;margin:8px 0}
ul.said li{margin:6px 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;background:linear-gradient(90deg,transparent,var(--card) 70%) 100% 0/44px 100% no-repeat local,
linear-gradient(270deg,var(--axis),transparent) 100% 0/14px 100% no-repeat scroll var(--card);
border:1px solid var(--line);border-radius:10px;margin:12px 0 4px}
.scroll:focus-visible{outline:3px solid var(--c0);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;padding:12px 16px 8px;font-weight:600}
th,td{padding:8px 16px;text-align:left;vertical-align:top;border-top:1px solid var(--line)}
thead th{font-size:.8rem;font-weight:600;color:var(--soft);white-space:nowrap;vertical-align:bottom}
tbody th{font-weight:500;overflow-wrap:anywhere;min-width:9rem}
.stack tbody th{min-width:13.5rem}
table:not(.stack) tbody th{position:sticky;left:0;background:var(--card)}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.w{min-width:22rem;overflow-wrap:anywhere}
.o{white-space:nowrap;font-weight:600}
.o svg{width:1.05em;height:1.05em;vertical-align:-.16em;margin-right:.4em}
.note{font-size:.86rem;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,500px),1fr));gap:16px;margin:12px 0}
figure{margin:0;padding:14px 16px 8px;background:var(--card);border:1px solid var(--line);border-radius:10px;
min-width:0}
figcaption{font-weight:600;font-size:.95rem;overflow-wrap:anywhere}
.unit{font-weight:400;color:var(--soft);margin-left:.35em}
figure>svg{display:block;width:100%;height:auto;margin-top:4px}
figure .note{margin:2px 0 4px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:6px 0 0;padding:0;
font-size:.84rem;color:var(--soft)}
.legend li{display:flex;align-items:center;gap:6px}
.swatch{flex:none}
footer{padding:36px 24px 40px;font-size:.86rem;color:var(--soft)}
svg text{font-family:inherit}
.mark{fill:var(--soft)}.grid{stroke:var(--grid)}.axis{stroke:var(--axis)}.band0{fill:var(--shade)}
.bound{stroke:var(--bound)}
.bound-label{fill:var(--bound);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.part{stroke:var(--card);stroke-width:1px}
.good{fill:var(--good)}.fair{fill:var(--fair)}.bad{fill:var(--bad)}.none{fill:var(--none)}
.range{fill:var(--c0)}"""
COLOURS = "".join(f".s{index}{{stroke:var(--c{index})}}.f{index}{{fill:var(--c{index})}}" for index in range(6))
NARROW = """
@media (max-width:640px){header,main,footer{padding-left:14px;padding-right:14px}
.verdict{padding:14px;gap:12px}.verdict svg{width:40px;height:40px}.verdict .word{font-size:1.35rem}
dl{gap:10px 28px}th,td{padding:8px 12px}
.stack,.stack tbody,.stack tr,.stack caption,.stack th,.stack td{display:block;width:auto;min-width:0}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack tr{border-top:1px solid var(--line);padding:8px 0}
.stack tbody th,.stack td{border:0;padding:3px 12px;text-align:left}
.stack .n::before{content:attr(data-label) ": ";color:var(--soft)}.stack .n{display:inline-block}
figure{padding:12px 10px 6px}svg .mark,svg .bound-label{font-size:14px}}"""
PAPER = """
@media print{html{font-size:10.5px}
body{background:#fff;font-size:1rem}header,main,footer{max-width:none;padding-left:0;padding-right:0}
nav{display:none}.scroll{overflow:visible;border-radius:0}figure,.verdict,tr{break-inside:avoid}
h2,h3,caption,section>p{break-after:avoid}
h2{margin-top:24px}
th,td{padding:4px 8px}.w{min-width:0}tbody th{min-width:0}.stack tbody th{min-width:10.5rem}
thead th,.n,.o{white-space:normal}
.charts{grid-template-columns:1fr 1fr}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}"""
STYLE = (
    f":root{{color-scheme:light dark;{LIGHT}}}@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}"
    f"{PAGE}{COLOURS}{NARROW}{PAPER}"
)
"""Print is light whatever the screen is."""
