"""The words of the simulated shop: tables only. `simulate.py` and `shop.py` make products, titles and queries of them.

In every list of words for one thing, the first is the plain one that is seen in training; of the others, some
are only ever used in validation or only in test.
"""

from __future__ import annotations

from dataclasses import dataclass


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


@dataclass(frozen=True)
class Category:
    """One kind of product.

    nouns: its names. cues: what titles say of nothing else. uses: what people search it for. near: categories that
    are easily confused with it, parts and accessories among them. sizes: key of SIZES. materials: keys of MATERIALS.
    """

    name: str
    nouns: tuple[str, ...]
    cues: tuple[str, ...]
    uses: tuple[str, ...]
    near: tuple[str, ...]
    department: str
    sizes: str | None
    materials: tuple[str, ...]
    for_people: bool


def _category(
    name: str, nouns: str, cues: str, uses: str, near: str, *, kind: str, sizes: str = "", of: str = "", who: bool = False
) -> Category:
    materials = _split(of) if of else ()
    return Category(
        name, _split(nouns), _split(cues), _split(uses), _split(near), kind, sizes or None, materials, who
    )


CATEGORIES = (
    # ------------------------------------------------------------ shoes
    _category(
        "running shoes",
        "running shoes, trainers, sneakers, joggers, athletic shoes, runners, jogging shoes, gym shoes",
        "cushioned midsole, marathon tested, breathable mesh upper, responsive stride, tempo race day, road jogging grip, "
        "heel drop 8 mm, sprint ready, track and treadmill, energy return foam, pronation support, interval sprinter",
        "something to jog in, footwear for a marathon, for sprinting on the track, to wear on the treadmill, "
        "for my first 10k race",
        "hiking boots, formal shoes, sandals, slippers",
        kind="shoes", sizes="shoe", of="mesh, leather, canvas", who=True,
    ),
    _category(
        "hiking boots",
        "hiking boots, trekking boots, walking boots, mountain boots, hikers, trail boots, rambling boots",
        "ankle support lugged sole, alpine summit grip, waterproof membrane backpacker, rocky terrain traction, mud proof "
        "mountaineer, crampon compatible, backcountry ankle high, wilderness trekker, rugged scree gaiter hook, "
        "forest trail waterproof lace up, high ankle peak explorer, toe guard for rocky paths",
        "to climb mountains in, footwear for the alps, for rambling in the hills, for a trek through the wilderness, "
        "to keep my ankles safe on rocky paths",
        "running shoes, formal shoes, sandals, tent",
        kind="shoes", sizes="shoe", of="leather, suede, canvas", who=True,
    ),
    _category(
        "formal shoes",
        "dress shoes, oxfords, brogues, derby shoes, office shoes, loafers, lace-up business shoes, wingtips",
        "goodyear welted, polished cap toe, for suit and tie, elegant wedding groom, hand burnished, boardroom classic, "
        "monk strap buckle, tuxedo matching, black tie evening sole, cobbler made, penny strap slip in, "
        "glossy ballroom finish",
        "footwear for a wedding, to wear with a suit, for a job interview on my feet, shoes that go with a tuxedo",
        "running shoes, hiking boots, sandals, slippers",
        kind="shoes", sizes="shoe", of="leather, suede", who=True,
    ),
    _category(
        "sandals",
        "sandals, flip flops, thongs footwear, slides, espadrille sandals, gladiator sandals, beach shoes, flip-flops",
        "open toe beach walk, toe post poolside, strappy summer, seaside slip on, barefoot feel straps, cork footbed "
        "holiday, airy toes sunny days, sand and surf strap, tropical vacation step, swimming pool deck, ankle strap "
        "open heel, boardwalk breezy",
        "to wear at the beach on my feet, footwear for hot summer days, open shoes for the pool, for walking on sand",
        "running shoes, formal shoes, slippers, hiking boots",
        kind="shoes", sizes="shoe", of="leather, rubber, cork", who=True,
    ),
    _category(
        "slippers",
        "slippers, house shoes, mules for home, moccasin slippers, indoor shoes, bedroom shoes, pantoffles",
        "cosy fireside, plush fleece lined indoor, memory foam home step, fluffy bedside, warm feet lounging, "
        "pyjama evening soft sole, sheepskin cosy, snug around the house, carpet friendly sole, winter morning fuzzy, "
        "sherpa lined lounge, hotel spa step",
        "to keep feet warm at home, for warm feet on cold mornings, to wear around the house with pyjamas, "
        "soft shoes for indoors",
        "sandals, running shoes, formal shoes, rug",
        kind="shoes", sizes="shoe", of="wool, suede, cotton", who=True,
    ),
    # ------------------------------------------------------------ clothes
    _category(
        "jacket",
        "jacket, coat, parka, anorak, windbreaker, raincoat, blouson, overcoat",
        "hooded windproof, zip front storm flap, down filled winter, waterproof shell, taped seams rain, padded outer "
        "layer, drawstring hood snow, insulated expedition, drizzle repellent, quilted puffer, blizzard ready fur hood, "
        "gale proof cuffs",
        "outerwear for winter, to stay dry in the rain, something to put over a sweater, protection from wind and snow",
        "sweater, trousers, t-shirt, dress",
        kind="clothes", sizes="clothes", of="wool, leather, cotton, polyester", who=True,
    ),
    _category(
        "sweater",
        "sweater, jumper, pullover, cardigan, knitwear, hoodie, sweatshirt, jersey top",
        "cable knit, turtleneck ribbed, chunky yarn, hand knitted, crew neck knit, soft warm knit long sleeve, fair isle, "
        "roll neck, v-neck wool blend, nordic pattern knit, brushed fleece inside hooded, aran stitch",
        "knitted top for autumn, something warm to wear over a shirt, woollen top, to cuddle up in on chilly evenings",
        "jacket, t-shirt, trousers, dress",
        kind="clothes", sizes="clothes", of="wool, cotton, polyester", who=True,
    ),
    _category(
        "trousers",
        "trousers, pants, jeans, chinos, slacks, leggings, denims, cargo pants, joggers bottoms",
        "slim leg zip fly, five pocket, high waist skinny, straight leg turn up, pleated front crease, bootcut stonewash, "
        "belt loops tapered leg, ankle length stretch waist, low rise distressed, wide leg flared, ripped knee, "
        "inseam 32",
        "to cover my legs, something to wear below the waist, bottoms for the office, legwear for casual friday",
        "jacket, sweater, t-shirt, dress",
        kind="clothes", sizes="clothes", of="cotton, polyester, wool, linen", who=True,
    ),
    _category(
        "t-shirt",
        "t-shirt, tee, tshirt, short sleeve shirt, graphic tee, polo shirt, tank top, undershirt",
        "short sleeve crew neck, printed slogan front, band logo summer top, jersey basic round neck, breathable tagless, "
        "screen printed, sleeveless gym top, pique collar short sleeve, muscle fit top, v-neck basic top, "
        "festival print top, crop hem summer top",
        "light top for summer, plain top to wear under a jacket, top with a funny print, sleeved top for hot weather",
        "sweater, jacket, trousers, dress",
        kind="clothes", sizes="clothes", of="cotton, polyester, linen", who=True,
    ),
    _category(
        "dress",
        "dress, gown, frock, sundress, maxi dress, cocktail dress, ball gown, pinafore",
        "a-line knee length, bridesmaid evening, floor length prom, sleeveless floral midi, wrap waist flowing hem, "
        "lace bodice, spaghetti strap mini, off shoulder elegant, tulle skirt princess, bodycon party night, "
        "empire waist, sequin gala",
        "something elegant for a bridesmaid, one piece outfit for a prom, outfit for a cocktail party for a lady, "
        "to wear to a gala evening as a woman",
        "trousers, t-shirt, sweater, handbag",
        kind="clothes", sizes="clothes", of="cotton, silk, polyester, linen",
    ),
    # ------------------------------------------------------------ bags
    _category(
        "backpack",
        "backpack, rucksack, knapsack, daypack, school bag, haversack, bookbag, shoulder pack",
        "padded shoulder straps, hip belt hydration sleeve, carry on both shoulders, roll top commuter, chest strap hiking, student books pocket, top loader with rain cover, ventilated back panel, campus carry, "
        "two strap cyclist carry, bottle side pockets, overnight trekking load",
        "to carry school books on my back, to take on a hike with both hands free, to carry on the shoulders, "
        "to carry things for pupils",
        "handbag, suitcase, laptop bag, wallet",
        kind="bags", sizes="litre", of="canvas, leather, polyester",
    ),
    _category(
        "handbag",
        "handbag, purse, tote, clutch, shoulder bag, satchel for women, crossbody bag, pocketbook",
        "chain strap evening, ladies top handle, gold clasp elegant, quilted flap, hobo slouch, shopper for ladies, "
        "makeup pocket inside, designer inspired carry, detachable strap feminine, bucket drawstring chic, "
        "magnetic snap fashion, crocodile pattern lady",
        "to carry lipstick and keys on a night out, small elegant bag for a lady, accessory to go with an evening gown",
        "backpack, suitcase, wallet, laptop bag",
        kind="bags", of="leather, canvas, suede",
    ),
    _category(
        "suitcase",
        "suitcase, luggage, trolley case, travel case, cabin bag, carry-on, roller case, hard shell case",
        "four spinner wheels, tsa lock, telescopic handle, cabin approved, check in size, expandable zip wheels, "
        "airline overhead locker, 360 degree wheels, holiday packing straps, airport roller, frequent flyer, "
        "boarding size wheels",
        "to pack clothes for a holiday, for checking in at the airport, what to bring on a plane, for frequent flyers",
        "backpack, handbag, laptop bag, wallet",
        kind="bags", sizes="litre", of="plastic, aluminium, polyester",
    ),
    _category(
        "wallet",
        "wallet, billfold, card holder, coin purse, money clip, cardholder, pocket organiser, notecase",
        "rfid blocking, bifold 8 slots, banknote compartment, credit cards and coins, slim front pocket, id window, "
        "trifold with zip coins, cash and cards, contactless theft protection, holds 12 cards, bank notes full size, "
        "pop up cards",
        "to keep my money in, for credit cards and cash, to carry coins and banknotes, protection for bank cards",
        "handbag, phone case, backpack, suitcase",
        kind="bags", of="leather, canvas, aluminium",
    ),
    _category(
        "laptop bag",
        "laptop bag, notebook sleeve, computer bag, laptop sleeve, laptop case, briefcase for laptop, macbook sleeve",
        "fits slim computer, padded computer compartment, neoprene sleeve for computers, shockproof ultrabook "
        "protector, charger pocket and computer slot, business messenger with computer pocket, protects macbook, "
        "chromebook protective cover, ultrabook envelope, trolley strap computer briefcase, tablet and computer folio, "
        "zip cover for computer",
        "to protect my computer on the way to work, cover for an ultrabook, to carry a macbook",
        "laptop, backpack, phone case, handbag",
        kind="bags", sizes="notebook", of="leather, polyester, canvas",
    ),
    # ------------------------------------------------------------ furniture
    _category(
        "sofa",
        "sofa, couch, settee, loveseat, chesterfield, divan, futon, sectional",
        "three seater, reclining living room, chaise longue corner, 2 seat upholstered, tufted back rolled arms, "
        "l-shaped modular lounge seating, deep cushions family room, pull out sleeper seating, movie night seating, "
        "armrest bolsters scatter cushions, seats four lounge, button back parlour",
        "seating for the living room, for the whole family to sit on and watch films, where guests sit in the lounge, "
        "to nap on in the living room",
        "office chair, mattress, wardrobe, desk",
        kind="furniture", sizes="width", of="leather, velvet, linen, cotton",
    ),
    _category(
        "office chair",
        "office chair, desk chair, swivel chair, task chair, gaming chair, computer chair, executive seat",
        "lumbar support swivel, adjustable armrests castors, gas lift headrest, ergonomic tilt seat, height adjustable "
        "on wheels, high back executive, five star base, rocking recline for gamers, spine friendly seat, "
        "360 swivel padded seat, tilt lock castors, backrest angle lever",
        "to sit at my workstation, seat for gamers, against back pain at the computer, rolling seat for work",
        "desk, sofa, bookshelf, wardrobe",
        kind="furniture", of="leather, mesh, velvet, polyester",
    ),
    _category(
        "desk",
        "desk, writing table, computer table, workstation, standing desk, bureau, work table, secretary table",
        "height adjustable top, cable management tray, keyboard drawer, home office corner top, sit stand electric legs, "
        "study with drawers, monitor shelf workspace, l-shaped work top, homework table, gamer station with cup holder, "
        "motorised legs memory presets, writing surface with hutch",
        "where to put my computer and monitor, for doing homework at, surface to work at home, to write letters at",
        "office chair, bookshelf, wardrobe, sofa",
        kind="furniture", sizes="width", of="wood, glass, steel",
    ),
    _category(
        "wardrobe",
        "wardrobe, closet, armoire, clothes cupboard, garment cabinet, clothing cabinet, clothes locker",
        "sliding doors hanging rail, three door mirror, garments hanging space, bedroom storage 2 door with drawers, "
        "hanging rod portable, clothes storage shelves and rail, dressing mirror door, coat rail inside, "
        "hanger space bedroom, dust cover garment storage, shirts and suits rail, walk in hanging system",
        "to hang my clothes in, bedroom storage for suits and dresses, to store shirts on hangers",
        "bookshelf, desk, sofa, mattress",
        kind="furniture", sizes="width", of="wood, steel, glass",
    ),
    _category(
        "bookshelf",
        "bookshelf, bookcase, book rack, shelving unit, library shelf, wall shelf, etagere, display shelves",
        "five tier, holds novels and ornaments, ladder style tiers, open back 4 cube, library reading corner, "
        "floating tiers, display tiers for plants and books, tall narrow tiers, encyclopaedia storage, tiered organiser "
        "for paperbacks, industrial pipe tiers, adjustable tiers",
        "to put my novels on, storage for a library, to display ornaments and paperbacks, where to keep books",
        "desk, wardrobe, sofa, office chair",
        kind="furniture", sizes="width", of="wood, steel, glass",
    ),
    _category(
        "mattress",
        "mattress, memory foam bed, pocket sprung bed, bed topper, futon mat, sleeping pad, box spring",
        "orthopaedic firm, memory foam sleep, pocket springs 2000, king size sleep, back sleepers, cooling gel foam "
        "night, hypoallergenic sleep surface, medium firm bedroom, removable washable cover sleep, spring core night "
        "rest, restful slumber foam, side sleeper comfort zones",
        "to sleep better at night, for back pain in bed, what to put on a bed frame, to lie on all night",
        "sofa, dog bed, rug, wardrobe",
        kind="furniture", sizes="width", of="latex, cotton, wool",
    ),
    # ------------------------------------------------------------ home textiles and light
    _category(
        "curtains",
        "curtains, drapes, blackout panels, window panels, drapery, voile panels, window hangings, net panels",
        "blackout eyelet, room darkening pair, thermal insulated window, sheer voile window, rod pocket, pencil pleat, "
        "tie backs included, light blocking window, noise reducing window pair, grommet top, floor length window pair, "
        "pelmet and valance",
        "to keep the sun out of the bedroom, to cover a window, so that neighbours cannot look in, to darken a room",
        "rug, lamp, mattress, wardrobe",
        kind="home", sizes="width", of="velvet, linen, cotton, polyester",
    ),
    _category(
        "lamp",
        "lamp, light, lantern, chandelier, floor lamp, bedside light, ceiling light, sconce, luminaire",
        "dimmable led, e27 bulb socket, bedside reading glow, pendant ceiling fixture, touch control warm white, 800 "
        "lumen, adjustable gooseneck illumination, shade and tripod base, 3000 k glow, candle style 5 arm, "
        "nightstand glow usb, wall mounted illumination",
        "to read in bed at night, something to brighten a dark corner, illumination for the dining room, "
        "to see better in the evening",
        "curtains, television, rug, bookshelf",
        kind="home", of="glass, steel, wood, cotton",
    ),
    _category(
        "rug",
        "rug, carpet, floor mat, runner rug, area rug, doormat, kilim, persian carpet",
        "shaggy pile, hand woven oriental, anti slip floor, hallway runner, hand tufted, low pile geometric floor, "
        "soft underfoot, persian medallion floor, flat weave boho floor, bathroom floor absorbent, entrance floor, "
        "deep pile living room floor",
        "to cover the cold floor, soft thing underfoot in the living room, to hide stains on a floor, "
        "floor covering for a hallway",
        "curtains, dog bed, mattress, slippers",
        kind="home", sizes="width", of="wool, cotton, jute, polyester",
    ),
    # ------------------------------------------------------------ kitchen
    _category(
        "kettle",
        "kettle, water boiler, teakettle, electric jug, tea maker, gooseneck kettle, hot water pot",
        "boils water in 3 minutes, cordless boil dry protection, whistling stovetop, 2200 w rapid boil, limescale filter, "
        "360 base auto shut off boil, pour over spout temperature, keeps water hot, tea time boil, "
        "gooseneck spout temperature hold, fast boil window, hot water for infusions",
        "to boil water, for making tea, to heat water for instant noodles, to get hot water fast",
        "coffee machine, blender, frying pan, refrigerator",
        kind="kitchen", sizes="litre-small", of="steel, glass, plastic",
    ),
    _category(
        "frying pan",
        "frying pan, skillet, wok, saute pan, griddle pan, frypan, omelette pan, crepe pan",
        "non stick induction, for eggs and pancakes, searing steaks, granite coating for bacon, stir fry, oven safe handle, deep sides for stir fries, pre seasoned, pfoa free coating, pancake flipping, sizzling steaks, "
        "fajita sizzler",
        "to make pancakes, cookware for eggs and bacon, to sear a steak, to stir fry vegetables in",
        "knife set, kettle, blender, coffee machine",
        kind="kitchen", sizes="pan", of="iron, aluminium, steel, copper",
    ),
    _category(
        "coffee machine",
        "coffee machine, coffee maker, espresso maker, cappuccino maker, percolator, barista machine, moka pot, french press",
        "15 bar pump, milk frother, burr grinder built in, capsule pods, latte and americano, drip carafe 12 cups, crema, "
        "portafilter steam wand, programmable brew, arabica brewing, lungo and ristretto, morning brew timer",
        "to make espresso at home, for lattes and cappuccino, caffeine in the morning, to brew ground beans",
        "kettle, blender, refrigerator, frying pan",
        kind="kitchen", sizes="litre-small", of="steel, plastic, glass",
    ),
    _category(
        "blender",
        "blender, smoothie maker, liquidiser, mixer jug, food processor, juicer, hand blender, stick mixer",
        "crushes ice, smoothies and shakes, 1200 w six blades, pulse function fruit, puree soups, protein shakes cup to "
        "go, nut butter and milkshakes, tamper jug, frozen fruit crushing, baby food puree, pesto and hummus, "
        "green juices",
        "to make smoothies, for pureeing soup, to crush ice for cocktails, to mix protein shakes",
        "kettle, coffee machine, frying pan, knife set",
        kind="kitchen", sizes="litre-small", of="glass, plastic, steel",
    ),
    _category(
        "knife set",
        "knife set, kitchen knives, chef knife, cutlery block, carving knives, santoku, cook's blades, cleaver",
        "forged blade, damascus, with wooden block and sharpener, razor sharp paring, full tang, boning and filleting, "
        "slicing and dicing, 6 piece block with scissors, edge retention, 20 cm blade, bread and tomato serrated, "
        "sushi slicing edge",
        "to cut vegetables and meat, for slicing sushi, to chop onions, sharp tools for a cook",
        "frying pan, blender, drill, kettle",
        kind="kitchen", of="steel, ceramic, wood",
    ),
    # ------------------------------------------------------------ appliances
    _category(
        "refrigerator",
        "refrigerator, fridge, fridge freezer, icebox, cooler cabinet, larder fridge, minibar, freezer",
        "no frost, salad crisper drawer, ice dispenser, french door cooling, under counter cooling, side by side cooling, "
        "egg and bottle rack, keeps groceries fresh, vegetable drawer cold zone, freezing compartment, "
        "dairy and meat chill zone, beverage chilling",
        "to keep food cold, to chill milk and vegetables, cooling appliance for groceries, to make ice cubes",
        "washing machine, vacuum cleaner, blender, fan heater",
        kind="appliances", sizes="litre-big", of="steel, glass",
    ),
    _category(
        "washing machine",
        "washing machine, washer, laundry machine, washer dryer, clothes washer, front loader, top loader",
        "1400 rpm spin, big load program, front loading drum, delicates and wool program, detergent dosing, quick 15 minutes "
        "cotton cycle, steam refresh for shirts, stain program, rinse and spin, laundry drum inverter motor, "
        "linens 60 degrees, child lock spin cycle",
        "to do the laundry, to clean dirty clothes, appliance for washing shirts and linen, to get stains out of clothes",
        "refrigerator, vacuum cleaner, fan heater, wardrobe",
        kind="appliances", sizes="load",
    ),
    _category(
        "vacuum cleaner",
        "vacuum cleaner, hoover, vac, dust sucker, stick vacuum, robot vacuum, cordless sweeper, dustbuster",
        "hepa filter suction, bagless cyclone, pet hair floors, crevice tool, cordless 40 min suction, dust bin 0.8 l, "
        "hard floor and carpet brush, auto charging floor robot, mop and suction, upholstery turbo brush, "
        "allergen sealed suction, stairs and car suction",
        "to get dust off the floor, to clean carpets, against pet hair on the floor, to suck up crumbs",
        "washing machine, lawn mower, rug, fan heater",
        kind="appliances", sizes="watt",
    ),
    _category(
        "fan heater",
        "heater, radiator, space heater, fan heater, convector, oil radiator, electric fireplace, patio heater",
        "ceramic ptc warmth, thermostat frost protection, oscillating warm air, oil filled fins, tip over switch warm, "
        "quartz infrared warmth, flame effect log, portable warmth for bathroom, warms up 20 sqm, towel rail warming, "
        "tilt protection glow, wall panel warmth",
        "to warm up a cold room, against freezing in winter in the office, to heat the bathroom, for cold garages",
        "refrigerator, vacuum cleaner, kettle, lamp",
        kind="appliances", sizes="watt",
    ),
    # ------------------------------------------------------------ electronics
    _category(
        "smartphone",
        "smartphone, mobile phone, cell phone, handset, cellphone, android phone, mobile, iphone alternative",
        "dual sim unlocked, 5g big storage, sim free, 6.5 inch amoled, face unlock 4g, octa core 50 mp triple lens, esim, "
        "fast charge 5000 mah 5g, android 13, no contract, gorilla glass nfc calls, prepaid unlocked",
        "to make calls and send texts, device to text my friends, to use apps on the go, to phone my grandchildren",
        "phone case, charger, smartwatch, laptop",
        kind="electronics", sizes="storage",
    ),
    _category(
        "laptop",
        "laptop, notebook computer, ultrabook, chromebook, portable computer, macbook, netbook, notebook pc",
        "core i7 16gb ram, ryzen 5 ssd, backlit keyboard windows 11, full hd ssd, touchpad hdmi ram 8gb, rtx "
        "graphics 144 hz ram, convertible touch screen keyboard, linux ready ram, m2 chip retina, 512 gb nvme, "
        "intel celeron emmc, office home student preinstalled",
        "computer for students, to program while travelling, pc to carry around, for spreadsheets on the train",
        "laptop bag, smartphone, television, charger",
        kind="electronics", sizes="notebook",
    ),
    _category(
        "television",
        "television, tv, smart tv, flat screen, telly, home cinema screen, tv set, big screen",
        "4k uhd hdr10, dolby vision, oled panel, netflix and youtube apps, dvb-t2 tuner, qled 120 hz, freeview, voice "
        "remote streaming, ultra hd ambilight, screen mirroring hdmi arc, vesa hd ready, 8k upscaling",
        "to watch movies in the living room, screen for football matches, to watch netflix at home, for the evening news",
        "tv mount, laptop, headphones, camera",
        kind="electronics", sizes="screen",
    ),
    _category(
        "headphones",
        "headphones, earphones, earbuds, headset, ear buds, in-ears, cans over-ear, airpods alternative",
        "noise cancelling, over ear bluetooth 5.0, true wireless 30 h playtime, deep bass mic, silicone tips in ear, "
        "3.5 mm jack stereo, foldable on ear, studio monitoring, gaming 7.1 surround mic boom, sweatproof music, "
        "hi res audio ear cushions, ambient sound mode",
        "to listen to music on the bus, to block out noise while flying, audio for jogging, sound only for my ears",
        "smartphone, charger, television, smartwatch",
        kind="electronics",
    ),
    _category(
        "camera",
        "camera, dslr, camcorder, mirrorless camera, digital camera, photo camera, action cam, system camera",
        "24 megapixel aps-c, 18-55 mm lens kit, optical zoom 30x, full frame body, 4k vlogging flip screen, image "
        "stabilisation viewfinder, cmos sensor raw, f2.8 aperture, underwater 4k 60 fps wide angle, instant print film, "
        "telephoto bridge, shutter 1/8000",
        "to take pictures of birds, for wedding photographers, to film my diving trips, to take portraits with",
        "smartphone, television, laptop, tv mount",
        kind="electronics",
    ),
    _category(
        "smartwatch",
        "smartwatch, fitness tracker, sports watch, activity band, smart watch, fitness band, gps watch, wearable",
        "heart rate monitor, step counter sleep, gps running wrist, spo2 amoled wrist, 50 m waterproof bluetooth calls "
        "wrist, counts calories, notifications on wrist, ecg wrist, pedometer band, vo2 max wrist, "
        "swim tracking strap, stress monitor wrist",
        "to count my steps, to measure my pulse, to track my sleep, to see notifications on my wrist",
        "smartphone, charger, headphones, wallet",
        kind="electronics", of="steel, rubber, leather", who=True,
    ),
    # ------------------------------------------------------------ accessories
    _category(
        "phone case",
        "phone case, phone cover, mobile cover, flip case for phone, bumper for phone, cellphone shell, handset sleeve",
        "shockproof for iphone 14, for galaxy s22 raised edges, magsafe back protector, flip with card slot for galaxy, "
        "clear anti yellow for iphone, drop tested for pixel 7, tpu for redmi, lanyard hole for iphone, "
        "kickstand for galaxy a53, slim fit for pixel, rugged armour for huawei, wallet style for oneplus",
        "to protect my phone when it falls, cover for my iphone, against scratches on my mobile, to make my phone prettier",
        "smartphone, charger, laptop bag, wallet",
        kind="accessories", of="leather, rubber, plastic",
    ),
    _category(
        "charger",
        "charger, power adapter, usb charger, power bank, charging cable, wall plug usb, charging station, power brick",
        "usb-c laptop power, gan fast pd, qi wireless pad, quick charge 3.0, dual port plug, 20000 mah external battery, "
        "lightning braided 2 m, 12v car socket usb, travel plug uk eu us, magsafe pad, type c fast power, "
        "multiport for iphone and ipad",
        "when my phone is out of battery, to power my phone, spare power for travelling, to fill up the battery of my mobile",
        "smartphone, phone case, laptop, headphones",
        kind="accessories", sizes="watt-small",
    ),
    _category(
        "tv mount",
        "tv mount, tv wall bracket, tv stand, television bracket, tv holder, screen wall mount, television arm",
        "vesa 400x400 tilt swivel, full motion arm for flat panels, low profile wall for flat screens, max 45 kg for "
        "screens, bubble level wall arm for screens, ceiling pole for screens, fixed to wall for flat panels, articulating vesa "
        "200, studs drywall screens, cantilever double arm vesa, height adjustable pole for screens, "
        "corner wall for flat screens",
        "to hang my telly on the wall, to fix a flat screen above the fireplace, to hang up a big screen",
        "television, lamp, bookshelf, camera",
        kind="accessories", sizes="screen", of="steel, aluminium",
    ),
    # ------------------------------------------------------------ beauty
    _category(
        "perfume",
        "perfume, eau de parfum, fragrance, cologne, eau de toilette, aftershave, scent spray, body mist",
        "top notes bergamot, vanilla and musk, floral jasmine spray, woody sandalwood, long lasting sillage, oud and amber, "
        "citrus heart notes, vaporisateur, patchouli base, rose oriental atomiser, fresh aquatic notes, tester flacon",
        "to smell nice, gift that smells of roses, smell for a date night, to spray on before a party",
        "sunscreen, shampoo, handbag, lamp",
        kind="beauty", sizes="ml", who=True,
    ),
    _category(
        "sunscreen",
        "sunscreen, sun cream, sunblock, sun lotion, spf cream, suntan lotion, sun milk, sun protection",
        "spf 50 uva uvb, water resistant face spf, broad spectrum mineral, zinc oxide reef safe, no white cast spf, after "
        "beach spf 30, non greasy uv filter, factor 50 kids, anti sunburn, tinted spf 40, very high uv shield, "
        "tanning oil spf 15",
        "against sunburn, to protect my skin at the beach, lotion for a tropical holiday, to avoid uv damage to skin",
        "shampoo, perfume, sandals, tent",
        kind="beauty", sizes="ml",
    ),
    _category(
        "shampoo",
        "shampoo, hair wash, hair cleanser, conditioner, hair soap, 2in1 hair care, anti-dandruff wash, hair shampoo bar",
        "anti dandruff, for oily scalp, argan oil for dry hair, sulfate free curls, keratin repair split ends, purple for "
        "blonde hair, tea tree scalp, volume for thin hair, detangling for long hair, colour treated hair, "
        "hair loss biotin, shiny hair coconut",
        "to wash my hair, for greasy hair, against dandruff, for an itchy scalp",
        "sunscreen, perfume, washing machine, nappies",
        kind="beauty", sizes="ml", who=True,
    ),
    # ------------------------------------------------------------ sport and garden
    _category(
        "bicycle",
        "bicycle, bike, mountain bike, road bike, mtb, e-bike, city bike, cruiser cycle, racing cycle",
        "21 speed disc brakes, off road wheels, shimano gears, hardtail suspension fork, step through basket, aluminium "
        "frame 700c, drop handlebar carbon fork, pedal assist 250w, kickstand mudguards, bmx freestyle, "
        "chain guard and bell, folding commuter wheels",
        "to ride to work, two wheels to commute, to pedal in the countryside, for cycling in the mountains",
        "stroller, tent, dumbbells, lawn mower",
        kind="outdoor", sizes="frame", of="aluminium, steel, carbon", who=True,
    ),
    _category(
        "tent",
        "tent, camping shelter, dome shelter, bivouac, tipi, family camping dome, beach shelter, awning",
        "pop up shelter, 3000 mm water column, poles and pegs, sewn in groundsheet, mosquito net vestibule, festival weekend shelter, tunnel with porch, geodesic expedition, quick pitch camping, sleeps the family outdoors, fibreglass poles, "
        "backpacking ultralight 1.8 kg",
        "to sleep outdoors at a festival, shelter for camping, to stay dry while camping, for a night in the woods",
        "hiking boots, backpack, mattress, bicycle",
        kind="outdoor", sizes="persons", of="polyester, cotton, nylon",
    ),
    _category(
        "dumbbells",
        "dumbbells, hand weights, weights set, kettlebell, barbell, free weights, weight plates, dumb bells",
        "hex rubber pair, adjustable dial pair, home gym lifting, neoprene coated pair, biceps curls, bodybuilding pair with "
        "rack, cast grip strength training, bench press discs, muscle building pair, vinyl coated workout, "
        "swing and squat iron ball, olympic discs 50 mm",
        "to train my biceps, to build muscle at home, something heavy to lift, strength training at home",
        "bicycle, running shoes, smartwatch, drill",
        kind="outdoor", sizes="kg", of="iron, rubber, steel",
    ),
    _category(
        "lawn mower",
        "lawn mower, lawnmower, grass cutter, strimmer, ride-on mower, robot mower, grass trimmer, garden mower",
        "cutting width 40 cm grass, grass box 50 l, self propelled petrol, mulching blade, 36 v cordless garden grass, "
        "cutting height 7 levels, boundary wire garden robot, hover garden grass, hedge and edge trimming line, "
        "4 stroke turf, ride on tractor turf, rear roller stripes turf",
        "to cut the grass, for a large garden with long grass, to keep the turf short, when the yard is overgrown",
        "vacuum cleaner, drill, bicycle, knife set",
        kind="outdoor", sizes="watt",
    ),
    _category(
        "drill",
        "drill, power drill, cordless screwdriver, hammer drill, impact driver, electric screwdriver, drill driver",
        "two batteries torque, 13 mm keyless chuck, torque 60 nm, sds plus masonry, brushless 2 gears, bits set case, "
        "concrete and brick rotary, screws and holes, percussion 850w, hex shank fastening, led worklight torque, "
        "right angle fastening",
        "to make holes in the wall, to hang up pictures in concrete, power tool for assembling furniture, to put in screws",
        "lawn mower, knife set, vacuum cleaner, dumbbells",
        kind="outdoor", sizes="volt",
    ),
    # ------------------------------------------------------------ family and pets
    _category(
        "stroller",
        "stroller, pushchair, pram, buggy, baby carriage, baby buggy, travel system, baby jogger",
        "five point harness, from birth to 15 kg, carrycot and rain cover, one hand fold newborn, reversible seat infant, "
        "twin side by side infants, air tyres toddler ride, isofix car seat compatible, canopy and bassinet, "
        "parent tray swivel wheels, toddlers up to 22 kg, baby shopping basket wheels",
        "to take my baby for a walk, for pushing twins around, wheels for a newborn, to get around town with a toddler",
        "bicycle, nappies, toy blocks, suitcase",
        kind="family", of="aluminium, polyester",
    ),
    _category(
        "toy blocks",
        "building blocks, bricks toy, construction set, lego, stacking blocks, construction toy, building bricks",
        "creative play age 6+, build a castle, compatible with major brands studs, stem creative age 8, magnetic tiles "
        "kids, spaceship build, fire station build, minifigures included, police car build, robot build kids "
        "coding, alphabet cubes toddlers, pirate ship age 7",
        "gift for a 6 year old who likes to build, to build castles with my kids, creative toy for a boy, "
        "to keep children busy building",
        "stroller, nappies, dog bed, bookshelf",
        kind="family", sizes="pieces", of="plastic, wood",
    ),
    _category(
        "nappies",
        "nappies, diapers, baby pants, pull ups, newborn nappies, training pants, huggies alternative, swim diapers",
        "size 4 9-14 kg, 12 h leak protection, wetness indicator, newborn 2-5 kg, overnight dry baby, umbilical cut out, "
        "monthly box baby, potty training, soft baby bottom, absorbent core baby, anti leak cuffs, "
        "baby dry nights",
        "to keep my baby dry, what to change a newborn with, for potty training, when the baby leaks at night",
        "stroller, toy blocks, shampoo, dog bed",
        kind="family", sizes="pieces", of="cotton, bamboo",
    ),
    _category(
        "dog bed",
        "dog bed, pet bed, cat bed, dog cushion, dog basket, puppy bed, pet sofa, kennel pad",
        "washable for labradors, orthopaedic for old paws, donut calming for pets, bolster for large breeds, chew "
        "resistant crate pad, puppies and kittens nest, fluffy nest for cats, raised cot for canines, paw print cushion, "
        "terrier snuggle, hound lounger, feline cave",
        "where my puppy can sleep, cosy place for a labrador, for my old poodle to rest, place for a kitten to nap",
        "mattress, sofa, rug, toy blocks",
        kind="family", sizes="width", of="cotton, velvet, polyester",
    ),
)

COLOURLESS = frozenset(("perfume", "sunscreen", "shampoo", "nappies", "mattress", "charger"))
"""Categories that nobody chooses by colour."""

GROUPS: dict[str, tuple[str, ...]] = {
    "footwear": ("running shoes", "hiking boots", "formal shoes", "sandals", "slippers"),
    "clothing": ("jacket", "sweater", "trousers", "t-shirt", "dress"),
    "apparel": ("jacket", "sweater", "trousers", "t-shirt", "dress"),
    "furniture": ("sofa", "office chair", "desk", "wardrobe", "bookshelf", "mattress"),
    "white goods": ("refrigerator", "washing machine"),
    "kitchenware": ("frying pan", "kettle", "blender", "knife set", "coffee machine"),
    "garden and diy": ("lawn mower", "drill"),
    "baby supplies": ("nappies", "stroller"),
}
"""Words wider than a category, and all categories that they cover."""

COLOURS = {
    plain: (plain, *_split(others))
    for plain, others in {
        "red": "crimson, scarlet, ruby, cherry red, burgundy, maroon, vermilion, wine red",
        "blue": "navy, azure, cobalt, sapphire, royal blue, indigo, denim blue, sky blue",
        "green": "emerald, olive, mint green, forest green, lime, sage green, khaki green, jade",
        "black": "jet black, ebony, onyx, charcoal black, midnight black, noir, raven, pitch black",
        "white": "ivory, snow white, off-white, pearl white, alabaster, chalk, arctic white, porcelain white",
        "yellow": "lemon, mustard, canary, sunflower yellow, saffron, amber yellow, golden yellow, daffodil",
        "brown": "chocolate, chestnut, tan, cognac, mocha, coffee brown, hazel, walnut brown",
        "grey": "gray, slate, ash grey, graphite, anthracite, pewter, stone grey, smoke grey",
        "pink": "rose, fuchsia, blush, magenta, salmon pink, hot pink, bubblegum, coral pink",
        "purple": "violet, lavender, plum, lilac, mauve, aubergine, amethyst, grape",
    }.items()
}

MATERIALS = {
    plain: (plain, *_split(others))
    for plain, others in {
        "leather": "cowhide, nappa, full grain leather, calfskin, saddle leather, genuine leather",
        "suede": "nubuck, suede leather, brushed suede, velour leather",
        "canvas": "sailcloth, duck canvas, waxed canvas, heavy canvas",
        "mesh": "knit mesh, air mesh, netting, airy mesh",
        "rubber": "silicone, natural rubber, soft rubber, caoutchouc",
        "cork": "natural cork, cork oak, pressed cork",
        "wool": "woollen, merino, lambswool, cashmere, alpaca, sheep wool",
        "cotton": "pure cotton, organic cotton, egyptian cotton, cotton twill, pima cotton, percale",
        "polyester": "microfibre, polyester blend, fleece polyester, recycled polyester",
        "linen": "flax, linen weave, pure linen, flaxen",
        "silk": "mulberry silk, satin silk, silken, pure silk",
        "velvet": "velour, crushed velvet, plush velvet, velveteen",
        "plastic": "polycarbonate, abs plastic, acrylic, polypropylene",
        "aluminium": "aluminum, alloy, alu, light alloy",
        "steel": "stainless steel, inox, satin steel, brushed steel, chrome steel",
        "iron": "cast iron, cast-iron, wrought iron, enamelled iron",
        "copper": "hammered copper, copper core, pure copper",
        "glass": "tempered glass, crystal, borosilicate, frosted glass",
        "wood": "wooden, oak, walnut wood, pine, beech, bamboo wood, solid timber, mahogany",
        "ceramic": "porcelain, stoneware, zirconia ceramic, earthenware",
        "latex": "natural latex, talalay latex, latex foam",
        "jute": "sisal, hemp, seagrass, burlap",
        "carbon": "carbon fibre, carbon fiber, full carbon",
        "nylon": "ripstop nylon, polyamide, cordura",
        "bamboo": "bamboo viscose, bamboo fibre, bamboo fabric",
    }.items()
}

PEOPLE = {
    "men": _split("men, mens, for him, gents, male, for my husband, gentlemen, for dad"),
    "women": _split("women, womens, for her, ladies, female, for my wife, lady, for mum"),
    "kids": _split("kids, children, junior, for boys and girls, youth, for my son, childrens, for schoolchildren"),
}

SIZES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "shoe": (("36", "38", "40", "42", "44"), ("size {}", "eu {}", "sz {}")),
    "clothes": (("s", "m", "l", "xl"), ("size {}", "{}", "sz {}")),
    "litre": (("20", "30", "45", "65", "90"), ("{} l", "{}l", "{} litre", "{} liters")),
    "litre-small": (("0.8", "1", "1.5", "1.7", "2"), ("{} l", "{}l", "{} litre")),
    "litre-big": (("120", "200", "310", "420"), ("{} l", "{}l", "{} litre")),
    "notebook": (("11", "13", "14", "15.6", "17"), ("{} inch", "{}in", '{}"')),
    "screen": (("32", "43", "50", "55", "65", "75"), ("{} inch", "{}in", '{}"')),
    "width": (("80", "100", "120", "160", "200"), ("{} cm", "{}cm", "width {}")),
    "pan": (("20", "24", "28", "32"), ("{} cm", "{}cm", "diameter {}")),
    "load": (("6", "7", "8", "9", "10"), ("{} kg", "{}kg")),
    "kg": (("2", "5", "10", "16", "24"), ("{} kg", "{}kg", "{} kilo")),
    "watt": (("600", "800", "1200", "2000"), ("{} w", "{}w", "{} watt")),
    "watt-small": (("20", "30", "45", "65"), ("{} w", "{}w", "{} watt")),
    "volt": (("12", "18", "20", "36"), ("{} v", "{}v", "{} volt")),
    "storage": (("64", "128", "256", "512"), ("{}gb", "{} gb", "{} gigabyte")),
    "ml": (("30", "50", "100", "200", "400"), ("{} ml", "{}ml")),
    "frame": (("24", "26", "28", "29"), ("{} inch", "{}in", '{}"')),
    "persons": (("2", "3", "4", "6"), ("{} person", "{} man", "{} persons")),
    "pieces": (("60", "120", "250", "500"), ("{} pcs", "{} pieces", "{} pack")),
}
"""Values, and the ways to write them."""

BRANDS: dict[str, tuple[str, ...]] = {
    "shoes": _split("Velmora, Striden, Oakhaven, Pondera, Kestrel & Co, Tarrow, Lumio"),
    "clothes": _split("Velmora, Oakhaven, Brightwell, Nordfjell, Tarrow, Mirelle, Pondera"),
    "bags": _split("Tarrow, Mirelle, Nordfjell, Kestrel & Co, Voyantis, Brightwell"),
    "furniture": _split("Hemsta, Woodrell, Casabel, Linnea Home, Brightwell, Orvane"),
    "home": _split("Hemsta, Casabel, Linnea Home, Lumio, Orvane, Mirelle"),
    "kitchen": _split("Kordia, Brewmont, Casabel, Zenko, Orvane, Halvik"),
    "appliances": _split("Kordia, Zenko, Halvik, Borealis, Technora, Maxwind"),
    "electronics": _split("Zenko, Technora, Quantix, Novalis, Orbitron, Lumio, Pixora"),
    "accessories": _split("Quantix, Voltera, Orbitron, Pixora, Zenko, Technora"),
    "beauty": _split("Mirelle, Solenne, Aquaria, Lumio, Florabelle, Dermaly"),
    "outdoor": _split("Nordfjell, Striden, Maxwind, Voltera, Borealis, Halvik, Gripline"),
    "family": _split("Lumio, Pawsome, Tiddly, Brightwell, Hemsta, Linnea Home"),
}
"""Invented brands; most make more than one kind of thing, so a brand does not give the category away."""

SERIES = _split(
    "Aero, Nova, Prime, Classic, Urban, Vista, Pulse, Comfort, Elite, Zen, Flow, Origin, Spark, Titan, Breeze, Orbit, "
    "Summit, Harmony, Fusion, Eco, Alpha, Orion, Luna, Metro"
)

NOISE = _split(
    "new, 2024 model, best seller, free delivery, original, premium quality, top rated, limited edition, gift idea, "
    "with warranty, sale, hot deal, official store, in stock, brand new in box, fast dispatch, easy returns, eco packaging"
)
"""What sellers put into titles and nobody searches for."""

LEAD_INS = _split("buy, cheap, best, looking for, i need, good, where to get, affordable, top, nice")
"""What people put into queries and no product carries."""
