// What the cards of the demo world say: a title in the room's language, about its topic, in its mood; a streamer's name; and the art of the card.
// Only for people to read; no probability depends on them.
// Invariants: 1. everything is a function of the bits and numbers that are passed  2. the order of every list is part of the world (it is under the golden
// checksum): append, never reorder  3. lists by language are in the order of `languageWords`, by mood of `moodWords`, by format of `formatWords`.

import { formatWords, moodWords } from "./names.ts";

/** By topic (category by category), by language: two things that such a room may be about, the first one the plain name. */
const subjects: readonly (readonly [string, string, string, string])[] = [
  ["shooters|ranked matches", "disparos|partidas clasificatorias", "射击游戏|排位赛", "jogos de tiro|partidas ranqueadas"],
  ["strategy games|one map, ten hours", "estrategia|un mapa y diez horas", "策略游戏|一张地图打到底", "estratégia|um mapa, dez horas"],
  ["speedruns|a run under twenty minutes", "speedruns|una partida en veinte minutos", "速通|二十分钟通关", "speedruns|zerar em vinte minutos"],
  ["retro games|cartridges from the attic", "juegos retro|cartuchos del desván", "怀旧游戏|老卡带", "jogos retrô|cartuchos do sótão"],
  ["piano|requests at the piano", "piano|peticiones al piano", "钢琴|钢琴点歌", "piano|pedidos ao piano"],
  ["guitar|six strings, no plan", "guitarra|seis cuerdas sin plan", "吉他|吉他弹唱", "violão|seis cordas sem plano"],
  ["karaoke|songs everybody knows", "karaoke|canciones de siempre", "卡拉OK|大家都会唱的歌", "karaokê|músicas que todos sabem"],
  ["beat making|a beat from kitchen sounds", "beats|un ritmo con la cocina", "编曲|用厨房声音做节拍", "beats|um beat com sons da cozinha"],
  ["late talk|thoughts after midnight", "charla nocturna|ideas de medianoche", "深夜聊天|睡不着的来", "papo da madrugada|ideias depois da meia-noite"],
  ["question hour|ask me anything", "preguntas|pregúntame lo que sea", "有问必答|随便问", "perguntas|pergunte qualquer coisa"],
  ["story time|the neighbour and the goat", "historias|el vecino y la cabra", "讲故事|邻居和山羊", "histórias|o vizinho e a cabra"],
  ["advice|letters from viewers", "consejos|cartas de la audiencia", "情感建议|读观众来信", "conselhos|cartas do público"],
  ["football|the match, minute by minute", "fútbol|el partido minuto a minuto", "足球|逐分钟看球", "futebol|o jogo minuto a minuto"],
  ["climbing|the hard wall", "escalada|la pared difícil", "攀岩|最难的那面墙", "escalada|a parede difícil"],
  ["table tennis|first to eleven", "ping-pong|a once puntos", "乒乓球|十一分制", "tênis de mesa|até onze pontos"],
  ["cycling|the long climb", "ciclismo|el puerto largo", "骑行|长坡挑战", "ciclismo|a subida longa"],
  ["noodles|hand-pulled noodles", "fideos|fideos a mano", "面条|手工拉面", "macarrão|massa feita à mão"],
  ["baking|bread with patience", "repostería|pan con paciencia", "烘焙|慢慢做面包", "confeitaria|pão com paciência"],
  ["street food|the night market", "comida callejera|el mercado nocturno", "街头小吃|逛夜市", "comida de rua|a feira noturna"],
  ["coffee|the perfect cup", "café|la taza perfecta", "咖啡|一杯好咖啡", "café|a xícara perfeita"],
  ["portraits|drawing you", "retratos|os dibujo", "肖像画|画你们", "retratos|desenho vocês"],
  ["pixel art|a town, pixel by pixel", "pixel art|una ciudad píxel a píxel", "像素画|一格一格画小镇", "pixel art|uma cidade pixel a pixel"],
  ["pottery|bowls on the wheel", "cerámica|cuencos al torno", "陶艺|拉坯做碗", "cerâmica|tigelas no torno"],
  ["calligraphy|one letter, a hundred times", "caligrafía|una letra, cien veces", "书法|一字百遍", "caligrafia|uma letra, cem vezes"],
  ["the night sky|the rings of Saturn", "cielo nocturno|los anillos de Saturno", "星空|看土星环", "céu noturno|os anéis de Saturno"],
  ["chemistry|colours in a glass", "química|colores en un vaso", "化学|试管里的颜色", "química|cores num copo"],
  ["robots|teaching a robot to walk", "robots|un robot aprende a andar", "机器人|教机器人走路", "robôs|um robô aprende a andar"],
  ["mathematics|a proof over tea", "matemáticas|una demostración con té", "数学|喝茶证明", "matemática|uma prova com chá"],
  ["city walks|the old town in the rain", "paseos|el casco viejo bajo la lluvia", "城市漫步|雨中老城", "passeios|o centro velho na chuva"],
  ["trains|from the driver's seat", "trenes|desde la cabina", "火车|司机视角", "trens|da cabine do maquinista"],
  ["mountains|hut to hut", "montañas|de refugio en refugio", "登山|从山屋到山屋", "montanhas|de abrigo em abrigo"],
  ["islands|the last ferry", "islas|el último ferry", "海岛|末班渡轮", "ilhas|a última balsa"],
  ["cats|seven cats, one sofa", "gatos|siete gatos y un sofá", "猫|七只猫一张沙发", "gatos|sete gatos, um sofá"],
  ["dogs|puppy school", "perros|escuela de cachorros", "狗|小狗学校", "cães|escola de filhotes"],
  ["aquariums|feeding time at the reef", "acuarios|hora de comer en el arrecife", "水族箱|珊瑚缸喂食", "aquários|hora da comida no recife"],
  ["bird nests|the owls are awake", "nidos|los búhos despiertan", "鸟巢|猫头鹰醒了", "ninhos|as corujas acordaram"],
  ["woodwork|a chair without nails", "carpintería|una silla sin clavos", "木工|不用钉子的椅子", "marcenaria|uma cadeira sem pregos"],
  ["knitting|the endless scarf", "punto|la bufanda infinita", "编织|织不完的围巾", "tricô|o cachecol sem fim"],
  ["miniatures|an army to paint", "miniaturas|un ejército por pintar", "微缩模型|涂一支军队", "miniaturas|um exército para pintar"],
  ["repairs|radios that are silent", "reparaciones|radios mudas", "修理|修老收音机", "consertos|rádios mudos"],
  ["languages|ten words a day", "idiomas|diez palabras al día", "学语言|每天十个词", "idiomas|dez palavras por dia"],
  ["programming|a game from nothing", "programación|un juego desde cero", "编程|从零写游戏", "programação|um jogo do zero"],
  ["chess|blitz against viewers", "ajedrez|blitz con la audiencia", "国际象棋|和观众下快棋", "xadrez|blitz com o público"],
  [
    "study room|fifty minutes of silence",
    "sala de estudio|cincuenta minutos de silencio",
    "自习室|安静五十分钟",
    "sala de estudo|cinquenta minutos de silêncio",
  ],
  ["second hand|treasures from the cellar", "segunda mano|tesoros del sótano", "二手好物|地下室淘宝贝", "segunda mão|tesouros do porão"],
  ["sneakers|opening boxes", "zapatillas|abriendo cajas", "球鞋|开箱", "tênis|abrindo caixas"],
  ["plants|cuttings for everybody", "plantas|esquejes para todos", "植物|分享小苗", "plantas|mudas para todos"],
  ["tea|five teas from one hill", "té|cinco tés de una colina", "茶|一座山五种茶", "chá|cinco chás de uma colina"],
];

/** By language, by mood; `{}` is the subject. */
const templates: readonly (readonly (readonly string[])[])[] = [
  [
    ["{}, nice and slow", "quiet hour: {}", "{} and a cup of tea"],
    ["{}!!! LET'S GO", "full volume: {}", "no brakes today, {}"],
    ["{}, what could go wrong", "I am terrible at this: {}", "{}, badly explained"],
    ["{}, properly this time", "in depth: {}", "all about {}"],
    ["can't sleep: {}", "{} until sunrise", "last one tonight: {}"],
    ["{} under a blanket", "rainy day, {}", "come in and stay: {}"],
  ],
  [
    ["{}, con calma", "hora tranquila: {}", "{} y una taza de té"],
    ["¡¡{} A TOPE!!", "a todo volumen: {}", "hoy sin frenos: {}"],
    ["{}, qué puede salir mal", "se me da fatal: {}", "{}, mal explicado"],
    ["{}, esta vez en serio", "a fondo: {}", "todo sobre {}"],
    ["sin sueño: {}", "{} hasta el amanecer", "lo último de hoy: {}"],
    ["{} con manta", "día de lluvia, {}", "pasa y quédate: {}"],
  ],
  [
    ["{}，慢慢来", "安静时光：{}", "{}配一杯茶"],
    ["{}！冲冲冲", "音量拉满：{}", "今天不刹车，{}"],
    ["{}，能出什么错", "我真的不会：{}", "乱讲{}"],
    ["{}，这次认真的", "深入聊聊{}", "关于{}的一切"],
    ["睡不着：{}", "{}到天亮", "今晚最后一场：{}"],
    ["裹着毯子{}", "下雨天，{}", "进来坐坐：{}"],
  ],
  [
    ["{}, com calma", "hora tranquila: {}", "{} e uma xícara de chá"],
    ["{}!!! BORA", "volume no máximo: {}", "hoje sem freio: {}"],
    ["{}, o que pode dar errado", "sou péssimo nisso: {}", "{}, mal explicado"],
    ["{}, agora a sério", "a fundo: {}", "tudo sobre {}"],
    ["sem sono: {}", "{} até o amanhecer", "a última de hoje: {}"],
    ["{} debaixo da coberta", "dia de chuva, {}", "entre e fique: {}"],
  ],
];

/** By language, by format; follows the title. */
const formats: readonly (readonly string[])[] = [
  ["", " · the two of us", " · with guests", " · contest"],
  ["", " · a dúo", " · con invitados", " · concurso"],
  ["", " · 双人", " · 有嘉宾", " · 比赛"],
  ["", " · em dupla", " · com convidados", " · competição"],
];

const newsTemplates: readonly (readonly string[])[] = [
  ["BREAKING: {}, what we know so far", "{}: it is happening right now", "just in, everybody is talking about {}"],
  ["ÚLTIMA HORA: {}, lo que sabemos", "{}: está pasando ahora mismo", "recién llegado, todos hablan de {}"],
  ["突发：{}，目前所知", "{}：正在发生", "刚刚，全网都在聊{}"],
  ["URGENTE: {}, o que já sabemos", "{}: está acontecendo agora", "acabou de chegar, todos falam de {}"],
];

const firstNames: readonly (readonly string[])[] = [
  ["Mara", "Owen", "Tess", "Jonah", "Priya", "Callum", "Edie", "Kofi", "Nell", "Ravi", "Hazel", "Dylan", "Amara", "Finn", "Ruth", "Leo"],
  ["Lucía", "Mateo", "Carmen", "Diego", "Valeria", "Iker", "Paloma", "Andrés", "Renata", "Hugo", "Inés", "Rafa", "Ximena", "Tomás", "Alba", "Nico"],
  ["小雨", "阿明", "晓琳", "大伟", "思思", "老陈", "可可", "子轩", "梦瑶", "阿杰", "小北", "雅婷", "浩然", "安安", "小满", "文博"],
  ["Beatriz", "João", "Larissa", "Caio", "Júlia", "Tiago", "Lívia", "Rui", "Camila", "Davi", "Marta", "Enzo", "Sofia", "Bruno", "Iara", "Vasco"],
];
const secondNames: readonly (readonly string[])[] = [
  ["at Night", "Outdoors", "and Co", "Live", "Unplugged", "Daily", "Makes", "Wanders", "Blue", "Park", "Hollow", "Reed", "Stone", "Fox", "Quill", "Vale"],
  ["en Vivo", "y Cía", "del Sur", "al Aire", "Nocturna", "sin Prisa", "Luna", "Ríos", "Vega", "Prado", "Soler", "Mar", "Norte", "Campos", "Roca", "Sol"],
  ["直播间", "的日常", "夜话", "工作室", "同学", "老师", "在路上", "慢生活", "小屋", "频道", "今天也在", "不加班", "一家", "手记", "随便播", "在线"],
  ["ao Vivo", "e Cia", "do Norte", "da Praia", "Noturna", "sem Pressa", "Lua", "Rocha", "Serra", "Campos", "Vale", "Mar", "Luz", "Ramos", "Flor", "Sol"],
];

/** A streamer's name from random bits; not unique, the room's id is. */
export function streamerName(bits: number, language: number): string {
  const first = firstNames[language]![bits & 15]!;
  const second = secondNames[language]![(bits >>> 4) & 15]!;
  return language === 2 ? first + second : `${first} ${second}`;
}

export interface TitleOf {
  readonly language: number;
  /** Of 48; worlds with fewer topics have the first ones of each category. */
  readonly category: number;
  readonly topicInCategory: number;
  /** Indices into `moodWords` and `formatWords`. */
  readonly mood: number;
  readonly format: number;
  /** The room is on the topic because of breaking news. */
  readonly news: boolean;
}

/** What the room's card says. */
export function roomTitle(bits: number, of: TitleOf): string {
  const about = subjects[of.category * 4 + of.topicInCategory]![of.language]!.split("|");
  const choices = of.news ? newsTemplates[of.language]! : templates[of.language]![of.mood]!;
  const subject = of.news ? about[0]! : about[bits & 1]!;
  const title = choices[(bits >>> 1) % choices.length]!.replace("{}", subject);
  return title.charAt(0).toUpperCase() + title.slice(1) + (of.news ? "" : formats[of.language]![of.format]!);
}

export const artPatterns = ["waves", "rings", "hills", "tiles", "rays", "dots", "leaves", "steps"] as const;

/** What a card's picture is drawn from, without any file: "hue hue pattern number". Hues in degrees: the first one of the category, the second of the mood,
 * each a little different from room to room; a pattern by topic; and a number for the details. */
export function roomArt(bits: number, of: TitleOf): string {
  const first = (of.category * 30 + (bits & 15)) % 360;
  const second = (first + 40 + of.mood * Math.floor(280 / moodWords.length) + ((bits >>> 4) & 15)) % 360;
  const pattern = artPatterns[(of.topicInCategory * 2 + (of.format % formatWords.length >= 2 ? 1 : 0)) % artPatterns.length]!;
  return `${first} ${second} ${pattern} ${(bits >>> 8) & 255}`;
}
