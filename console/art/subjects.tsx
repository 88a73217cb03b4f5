// What is on a picture, by category. Each subject draws into 320 x 180; all take their tones from the brush, so that a picture is of one piece.

import type { ComponentChildren } from "preact";

export interface Brush {
  /** Uniform in [0, 1). */
  draw(): number;
  between(low: number, high: number): number;
  /** A colour of the picture's hue, turned by degrees. */
  tone(lightness: number, chroma?: number, turn?: number): string;
}

type Subject = (brush: Brush) => ComponentChildren;

const times = <T,>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));

const games: Subject = ({ draw, between, tone }) => {
  const size = 15;
  const left = 160 - 4.5 * size;
  const body = tone(0.93, 0.08, 60);
  const pixels = times(40, (index) => {
    const [column, row] = [index % 5, Math.floor(index / 5)];
    if (draw() < (row < 1 || row > 6 ? 0.62 : 0.36)) return null;
    const y = 26 + row * size;
    return [column, 8 - column].map((x) => <rect key={`${x}.${row}`} x={left + x * size} y={y} width={size - 1.5} height={size - 1.5} rx="2" fill={body} />);
  });
  const floor = times(7, (index) => (
    <path key={index} d={`M${160 + (index - 3) * 22} 150 L${160 + (index - 3) * 92} 180`} stroke={tone(0.9, 0.1, 40)} stroke-opacity=".5" />
  ));
  const sparks = times(9, (index) => (
    <rect key={index} x={between(6, 310)} y={between(6, 130)} width="4" height="4" fill={tone(0.88, 0.1, 90)} opacity={between(0.3, 0.8)} />
  ));
  return [sparks, <rect y="150" width="320" height="30" fill={tone(0.26, 0.08)} opacity=".55" />, floor, pixels];
};

const music: Subject = ({ between, tone }) => {
  const bars = times(21, (index) => {
    const height = between(14, 46) + 62 * Math.exp(-(((index - between(7, 13)) / 5) ** 2));
    return <rect key={index} x={14 + index * 14} y={146 - height} width="8" height={height} rx="4" fill={tone(0.92, 0.07, index * 5)} opacity=".82" />;
  });
  const x = between(90, 230);
  const disc = [62, 50, 40, 30].map((r) => <circle key={r} cx={x} cy="84" r={r} fill="none" stroke={tone(0.24, 0.06)} stroke-opacity=".35" stroke-width="5" />);
  return [
    disc,
    <circle cx={x} cy="84" r="12" fill={tone(0.85, 0.13, 60)} opacity=".8" />,
    bars,
    <rect x="0" y="150" width="320" height="2" fill={tone(0.95, 0.04)} opacity=".6" />,
  ];
};

const chat: Subject = ({ draw, between, tone }) =>
  times(3, (index) => {
    const width = between(96, 158);
    const x = index % 2 === 0 ? between(18, 66) : 302 - width - between(0, 44);
    const y = 20 + index * 49;
    const tail = index % 2 === 0 ? `M${x + 22} ${y + 36} l-4 16 l18 -16z` : `M${x + width - 22} ${y + 36} l4 16 l-18 -16z`;
    const fill = tone(index === 1 ? 0.34 : 0.94, index === 1 ? 0.09 : 0.04, index * 30);
    const ink = tone(index === 1 ? 0.88 : 0.5, 0.09, index * 30);
    const words = draw() < 0.5 ? [0.5, 0.3] : [0.3, 0.24, 0.2];
    let at = x + 18;
    return [
      <rect key={index} x={x} y={y} width={width} height="38" rx="17" fill={fill} opacity=".94" />,
      <path d={tail} fill={fill} opacity=".94" />,
      words.map((share) => {
        const word = <rect key={at} x={at} y={y + 16} width={share * (width - 44)} height="6" rx="3" fill={ink} opacity=".75" />;
        at += share * (width - 44) + 8;
        return word;
      }),
    ];
  });

const sport: Subject = ({ between, tone }) => {
  const centre = between(200, 340);
  const lanes = times(6, (index) => (
    <circle
      key={index}
      cx={centre}
      cy="210"
      r={64 + index * 30}
      fill="none"
      stroke={tone(0.94, 0.05, 30)}
      stroke-opacity={0.85 - index * 0.1}
      stroke-width="3"
    />
  ));
  const [x, y] = [between(50, 130), between(48, 84)];
  return [
    <circle cx={centre} cy="210" r="230" fill={tone(0.5, 0.12, -20)} opacity=".75" />,
    lanes,
    <path
      d={`M0 ${y + 76} Q ${x} ${y - 46} ${x + 4} ${y}`}
      fill="none"
      stroke={tone(0.96, 0.03)}
      stroke-width="2"
      stroke-dasharray="2 8"
      stroke-linecap="round"
    />,
    <circle cx={x} cy={y} r="21" fill={tone(0.97, 0.03, 60)} />,
    <path d={`M${x - 20} ${y - 4} q20 14 40 0 M${x - 12} ${y - 17} q8 17 0 34`} fill="none" stroke={tone(0.45, 0.1)} stroke-width="2.5" />,
  ];
};

const cooking: Subject = ({ between, tone }) => {
  const x = between(130, 190);
  const steam = times(4, (index) => {
    const left = x - 48 + index * 32 + between(-6, 6);
    return (
      <path
        key={index}
        d={`M${left} 88 q-14 -18 0 -32 t0 ${-between(24, 38)}`}
        fill="none"
        stroke={tone(0.97, 0.03)}
        stroke-width="5"
        stroke-linecap="round"
        opacity={between(0.35, 0.75)}
      />
    );
  });
  const toppings = times(7, (index) => (
    <circle key={index} cx={x - 62 + index * 21} cy={between(96, 103)} r={between(9, 15)} fill={tone(between(0.6, 0.85), 0.14, between(-50, 90))} />
  ));
  return [
    <ellipse cx={x} cy="164" rx="120" ry="12" fill={tone(0.25, 0.05)} opacity=".3" />,
    steam,
    toppings,
    <path d={`M${x - 86} 102 h172 q-6 56 -54 60 h-64 q-48 -4 -54 -60z`} fill={tone(0.36, 0.09, -14)} />,
    <path d={`M${x - 86} 102 h172 l-2 11 h-168z`} fill={tone(0.9, 0.07, 30)} />,
    <path d={`M${x + 52} 98 L${x + 118} 34 M${x + 64} 100 L${x + 134} 44`} stroke={tone(0.3, 0.06, 20)} stroke-width="5" stroke-linecap="round" />,
  ];
};

const art: Subject = ({ between, tone }) => {
  const strokes = times(6, (index) => {
    const y = 26 + index * 26;
    const d = `M${between(-30, 40)} ${y} C ${between(60, 130)} ${y + between(-46, 46)}, ${between(170, 230)} ${y + between(-46, 46)}, ${between(270, 350)} ${y + between(-24, 24)}`;
    return (
      <path
        key={index}
        d={d}
        fill="none"
        stroke={tone(between(0.45, 0.93), 0.15, index * 58 - 90)}
        stroke-width={between(10, 26)}
        stroke-linecap="round"
        opacity=".82"
      />
    );
  });
  const dabs = times(8, (index) => (
    <circle key={index} cx={between(14, 306)} cy={between(14, 166)} r={between(3, 10)} fill={tone(0.95, 0.1, index * 45)} opacity=".85" />
  ));
  return [strokes, dabs];
};

const science: Subject = ({ draw, between, tone }) => {
  const stars = times(34, (index) => (
    <circle key={index} cx={between(0, 320)} cy={between(0, 180)} r={between(0.6, 2.1)} fill="#fff" opacity={between(0.35, 0.95)} />
  ));
  const [x, y, r] = [between(110, 210), between(76, 108), between(34, 46)];
  const tilt = between(-28, 28).toFixed(0);
  const moons = times(3, (index) => (
    <circle
      key={index}
      cx={x + Math.cos(index * 2.4 + draw()) * (r + 34 + index * 18)}
      cy={y + Math.sin(index * 2.4) * (r + 8)}
      r={between(4, 9)}
      fill={tone(0.9, 0.08, index * 60)}
    />
  ));
  return [
    <rect width="320" height="180" fill={tone(0.2, 0.07)} opacity=".78" />,
    stars,
    <circle cx={x} cy={y} r={r} fill={tone(0.72, 0.14, 30)} />,
    <path d={`M${x - r} ${y} a${r} ${r} 0 0 0 ${r * 2} 0 a${r} ${r * 0.5} 0 0 1 ${-r * 2} 0`} fill={tone(0.44, 0.12)} opacity=".55" />,
    <ellipse
      cx={x}
      cy={y}
      rx={r * 1.75}
      ry={r * 0.42}
      transform={`rotate(${tilt} ${x} ${y})`}
      fill="none"
      stroke={tone(0.92, 0.08, 60)}
      stroke-width="5"
      stroke-opacity=".85"
    />,
    moons,
  ];
};

const travel: Subject = ({ between, tone }) => {
  const ridge = (base: number, height: number): string => {
    const tops = times(
      5,
      (index) => `L${index * 80 + 40 + between(-18, 18)} ${base - between(height * 0.4, height)} L${(index + 1) * 80} ${base - between(0, height * 0.3)}`,
    );
    return `M0 180 L0 ${base} ${tops.join(" ")} L320 180z`;
  };
  return [
    <circle cx={between(60, 260)} cy={between(40, 70)} r={between(20, 30)} fill={tone(0.96, 0.09, 70)} opacity=".95" />,
    <path d={ridge(112, 66)} fill={tone(0.66, 0.08, -10)} />,
    <path d={ridge(140, 60)} fill={tone(0.48, 0.09, -20)} />,
    <path d={ridge(166, 40)} fill={tone(0.32, 0.08, -30)} />,
  ];
};

const animals: Subject = ({ draw, between, tone }) => {
  const x = between(120, 200);
  const pointed = draw() < 0.6;
  const coat = tone(between(0.34, 0.5), 0.1, between(-50, 10));
  const ears = pointed
    ? `M${x - 44} 104 l4 -54 l36 26z M${x + 44} 104 l-4 -54 l-36 26z`
    : `M${x - 40} 96 q-34 -10 -26 40 q22 0 34 -22z M${x + 40} 96 q34 -10 26 40 q-22 0 -34 -22z`;
  return [
    <ellipse cx={between(20, 110)} cy="196" rx="170" ry="66" fill={tone(0.68, 0.13, 10)} />,
    <ellipse cx={between(210, 300)} cy="204" rx="180" ry="62" fill={tone(0.58, 0.13, -6)} />,
    <path d={`M${x - 58} 190 q0 -66 58 -66 t58 66z`} fill={coat} />,
    <circle cx={x} cy="104" r="46" fill={coat} />,
    <path d={ears} fill={coat} />,
    [-17, 17].map((side) => <ellipse key={side} cx={x + side} cy="100" rx="8" ry="9" fill={tone(0.95, 0.09, 40)} />),
    [-17, 17].map((side) => <ellipse key={side} cx={x + side + 1} cy="101" rx={pointed ? 2.4 : 4} ry="6.5" fill={tone(0.16, 0.03)} />),
    <path d={`M${x - 5} 116 h10 l-5 6z`} fill={tone(0.86, 0.1, -60)} />,
  ];
};

const crafts: Subject = ({ between, tone }) => {
  const step = 26;
  const turn = between(20, 70);
  const cells = times(14 * 8, (index) => {
    const [column, row] = [index % 14, Math.floor(index / 14)];
    const across = (column + row) % 2 === 0;
    const [x, y] = [column * step - 14, row * step - 10];
    const fill = across ? tone(0.9 - row * 0.03, 0.07, turn) : tone(0.42 + column * 0.012, 0.1);
    return across ? (
      <rect key={index} x={x - 2} y={y + 4} width={step + 4} height={step - 8} rx="8" fill={fill} />
    ) : (
      <rect key={index} x={x + 4} y={y - 2} width={step - 8} height={step + 4} rx="8" fill={fill} />
    );
  });
  return (
    <g opacity=".92" transform={`rotate(${between(-16, 16).toFixed(0)} 160 90) scale(1.12)`} transform-origin="160 90">
      {cells}
    </g>
  );
};

const learning: Subject = ({ between, tone }) => {
  const squares = times(32, (index) => {
    const [column, row] = [(index % 8) * 2 + (Math.floor(index / 8) % 2), Math.floor(index / 8)];
    return <rect key={index} x={column * 20} y={row * 20} width="20" height="20" fill={tone(0.95, 0.04)} opacity=".22" />;
  });
  let x = between(26, 70);
  const books = times(7, (index) => {
    const [width, height] = [between(17, 33), between(74, 116)];
    const left = x;
    x += width + 3;
    const fill = tone(between(0.36, 0.84), 0.11, index * 40 - 60);
    return [
      <rect key={index} x={left} y={156 - height} width={width} height={height} rx="3" fill={fill} />,
      <rect x={left + 4} y={156 - height + 12} width={width - 8} height="5" rx="2" fill={tone(0.96, 0.04)} opacity=".75" />,
      <rect x={left + 4} y="134" width={width - 8} height="3" rx="1.5" fill={tone(0.96, 0.04)} opacity=".5" />,
    ];
  });
  return [squares, books, <rect y="156" width="320" height="24" fill={tone(0.28, 0.06)} opacity=".85" />];
};

const markets: Subject = ({ between, tone }) => {
  const stripe = 32;
  const awning = times(10, (index) => {
    const fill = index % 2 === 0 ? tone(0.95, 0.03, 40) : tone(0.5, 0.15);
    return <path key={index} d={`M${index * stripe} 0 h${stripe} v52 a16 16 0 0 1 ${-stripe} 0z`} fill={fill} />;
  });
  const goods = times(11, (index) => (
    <circle
      key={index}
      cx={22 + index * 28 + between(-4, 4)}
      cy={between(116, 126)}
      r={between(11, 16)}
      fill={tone(between(0.55, 0.85), 0.15, between(-80, 120))}
    />
  ));
  return [
    goods,
    <rect x="0" y="128" width="320" height="52" fill={tone(0.34, 0.07, 30)} />,
    times(5, (index) => (
      <rect
        key={index}
        x={index * 66 - 4}
        y="134"
        width="58"
        height="40"
        rx="3"
        fill="none"
        stroke={tone(0.7, 0.09, 40)}
        stroke-opacity=".6"
        stroke-width="3"
      />
    )),
    <rect width="320" height="10" y="62" fill={tone(0.2, 0.05)} opacity=".14" />,
    awning,
  ];
};

export const subjects: Readonly<Record<string, Subject>> = { games, music, chat, sport, cooking, art, science, travel, animals, crafts, learning, markets };
