# %% [markdown] lang="zh"
# # 动手：自己造一张位置表 {#notebook-sinusoidal}
#
# 正弦位置编码不过是一张数表：没有参数，不用训练，几行代码就能写出来。
# 也正因为短，人人都自己写一份，而写错了不会报错。
#
# 这一页做四件事：用手把表算出来，画出来，让它平移，再故意把它弄坏。
# 每个实验之前都有一个问题，请先写下你的预测，再看结果。
# 推导和证明在[正弦位置编码](../sinusoidal.md)一页。
# 全部代码只需要 NumPy、Matplotlib 和 posenc；下载的笔记本在装好它们之后可以直接运行。

# %% [markdown] lang="en"
# # Hands on: build the table yourself {#notebook-sinusoidal}
#
# The sinusoidal position encoding is a table of numbers: no parameters, no training, a few lines
# of code. Because it is short everybody writes their own, and a mistake raises no error.
#
# This page does four things: build the table by hand, plot it, shift it, then break it on
# purpose. A question stands before every experiment: write down your prediction, then look.
# Derivations and proofs are on the page [The sinusoidal encoding](../sinusoidal.md). All of
# the code needs NumPy, Matplotlib and posenc only; with these installed, the downloaded notebook
# runs as it is.

# %% [markdown] lang="zh"
# ## 造表 {#build}
#
# ### 从一个数开始 {#one-number}
#
# 表的一行属于一个位置 $k$，每两列属于一个频率对 $m$。
# 每一对有自己的频率 $\theta_m = b^{-2m/d}$：每走一个位置，角度就增加这么多弧度。
# 表里只记角度的正弦和余弦。为了好算，先取底数 $b = 100$，宽度 $d = 4$。
#
# **预测：** 位置 3、频率对 1 的角度是多少？口算即可。

# %% [markdown] lang="en"
# ## Build {#build}
#
# ### One number first {#one-number}
#
# A row of the table belongs to a position $k$, two neighbouring columns to a frequency pair $m$.
# The pair has a frequency of its own, $\theta_m = b^{-2m/d}$: the radians that its angle grows by
# at every step. The table holds the sine and the cosine of the angle. To keep the sums easy, take
# base $b = 100$ and width $d = 4$ for now.
#
# **Predict:** what is the angle at position 3 in pair 1? You can do it in your head.

# %%
import matplotlib.pyplot as plt
import numpy as np

from posenc.equations.sinusoidal import shift_matrix, sinusoidal

k, m = 3, 1  # position, frequency pair
b, d = 100, 4  # base, width

theta = b ** (-2 * m / d)
angle = k * theta
print(f"theta  {theta:.4f}")
print(f"angle  {angle:.4f}")
print(f"sin    {np.sin(angle):.4f}")
print(f"cos    {np.cos(angle):.4f}")

# %% [markdown] lang="zh"
# 频率是 0.1，角度是 0.3。最后两个数就是一对：表的第 3 行、第 2 列和第 3 列。
# 行和列都从 0 数起。
#
# ### 一行，一张表 {#rows}
#
# 一行就是把每个频率对的一对数依次接起来；一张表就是每个位置一行。
#
# **预测：** 第 0 行是不是全零？

# %% [markdown] lang="en"
# The frequency is 0.1, the angle 0.3. The last two numbers are a pair: row 3 of the table, columns
# 2 and 3. Rows and columns count from 0.
#
# ### A row, a table {#rows}
#
# A row is the pairs of all frequencies one after the other; a table is one row per position.
#
# **Predict:** is row 0 all zeros?

# %%


def row(k, d, b):
    numbers = []
    for m in range(d // 2):
        angle = k * b ** (-2 * m / d)
        numbers += [np.sin(angle), np.cos(angle)]
    return numbers


by_loop = np.array([row(k, 4, 100) for k in range(4)])
for k, numbers in enumerate(by_loop):
    print(k, " ".join(f"{number:7.4f}" for number in numbers))

# %% [markdown] lang="zh"
# 不是：角度为 0 时正弦为 0，余弦却是 1，所以第 0 行是 0、1 相间。
# 再看各列：左边两列每一步变很多，右边两列变得慢，快慢正好差十倍。
#
# 循环好懂，向量化的写法更短：位置排成一列，频率排成一行，相乘就是全部角度。
#
# **预测：** 循环、向量化、posenc 三种写法，结果一样吗？

# %% [markdown] lang="en"
# It is not: at angle 0 the sine is 0 but the cosine is 1, so that zeros and ones take turns in
# that row. Now along the columns: the left two change a lot at every step, the right two little;
# one pair is ten times as fast as the other.
#
# A loop is easy to follow; vectorised code is shorter. Positions as a column times frequencies as
# a row are all of the angles.
#
# **Predict:** loop, vectorised code and posenc: one table or three?

# %%
positions, theta = np.arange(4), 100 ** (-2 * np.arange(2) / 4)
angles = positions[:, None] * theta

at_once = np.empty((4, 4))
at_once[:, 0::2] = np.sin(angles)
at_once[:, 1::2] = np.cos(angles)

for table in (by_loop, sinusoidal(positions, 4, 100)):
    print(np.allclose(at_once, table, rtol=0, atol=1e-15))

# %% [markdown] lang="zh"
# 同一张表。以后直接用 `sinusoidal`。
#
# ## 画图 {#plot}
#
# ### 热力图 {#heat}
#
# 换成论文的底数 10000，宽度取 32，画出前 40 个位置。
#
# **预测：** 从左往右，条纹会变宽还是变窄？最右边的几列里看得出位置吗？

# %% [markdown] lang="en"
# One table. From here on `sinusoidal` will do.
#
# ## Plot {#plot}
#
# ### Heat map {#heat}
#
# Take the base of the paper, 10000, and width 32, and draw the first 40 positions.
#
# **Predict:** do the stripes get wider or narrower from left to right? Can you see the position
# in the columns at the far right?

# %% zh="底数 10000、宽度 32 的表。一行是一个位置 k，一列是一个分量 c；颜色越浓，数越接近 1；越淡，越接近 −1。" en="The table of base 10000 and width 32. A row is a position k, a column a component c; the stronger the colour, the nearer to 1; the fainter, the nearer to −1."
figure, ax = plt.subplots(figsize=(4.8, 4))
ax.pcolormesh(sinusoidal(np.arange(40), 32), vmin=-1, vmax=1)
ax.set(xlabel="c", xticks=range(0, 33, 8), yticks=range(0, 41, 10))
ax.set_ylabel("k", rotation=0, labelpad=8)
ax.invert_yaxis()
figure.tight_layout()

# %% [markdown] lang="zh"
# 条纹越往右越宽。左端的列几步一个来回；右端的正弦几乎都是 0、余弦几乎都是 1，
# 走 40 步，肉眼看不出变化。变化还在，只是要走很远才显出来（[波长](../sinusoidal.md#wavelengths)）。
#
# ### 曲线 {#curves}
#
# 再竖着看：宽度 8、底数 100，一共四个频率对。
#
# **预测：** 频率对 3 在 64 个位置里能走完一个周期吗？

# %% [markdown] lang="en"
# Wider. Columns on the left swing back and forth within a few steps; on the right the sines are
# almost 0 and the cosines almost 1, and 40 steps change nothing that an eye could see. The change
# is there, but it takes a long way to show ([wavelengths](../sinusoidal.md#wavelengths)).
#
# ### Curves {#curves}
#
# The same thing along the columns: width 8 and base 100 have four frequency pairs.
#
# **Predict:** does pair 3 complete a period within 64 positions?

# %% zh="宽度 8、底数 100 的四个频率对：实线是正弦，虚线是余弦，点是表里真正取到的值。频率对 0 一个周期只有六个多点，频率对 3 还没走到三分之一个周期。" en="The four frequency pairs of width 8 and base 100: sines solid, cosines dashed; the dots are what the table takes of the sine. Pair 0 has little more than six dots to a period; pair 3 does not get through a third of its own."
figure, axes = plt.subplots(4, 1, figsize=(4.8, 4.4), sharex=True)
k, dense = np.arange(64), np.linspace(0, 63, 400)
for m, ax in enumerate(axes):
    theta = 100 ** (-2 * m / 8)
    ax.plot(dense, np.sin(dense * theta), linewidth=1.2)
    ax.plot(dense, np.cos(dense * theta), linewidth=1.2, linestyle="dashed")
    ax.plot(k, np.sin(k * theta), ".", color="C0", markersize=3)
    ax.set(xlim=(0, 63), yticks=[-1, 0, 1])
    ax.set_ylabel(f"m = {m}", rotation=0, labelpad=20)
axes[-1].set_xlabel("k")
figure.tight_layout()

# %% [markdown] lang="zh"
# 走不完，差得远。
#
# ### 钟 {#clocks}
#
# 一对正弦和余弦就是圆上的一点，也就是一根表针：横坐标取正弦，纵坐标取余弦，
# 那么 $k = 0$ 时针指 12 点，$k$ 增大时顺时针走，和真的钟一样。
# 取底数 10000、宽度 8，频率正好是 1、0.1、0.01、0.001。
#
# **预测：** 从位置 2024 走到 2034，哪几根针明显动了？

# %% [markdown] lang="en"
# Far from it.
#
# ### Clocks {#clocks}
#
# A sine and its cosine are a point on a circle, the tip of a hand. Let the sine be the horizontal
# coordinate and the cosine the vertical one: at $k = 0$ the hand points to twelve, and as $k$
# grows it runs clockwise, like any clock. With base 10000 and width 8, the frequencies are 1, 0.1,
# 0.01 and 0.001.
#
# **Predict:** from position 2024 to 2034, which hands move so that you can see it?

# %% zh="四个频率对就是四只钟：实线是位置 2024 的针，虚线是位置 2034 的针。左边两根转了很多，第三根转过一点，最右边一根几乎没动。" en="Four frequency pairs are four clocks: solid hands at position 2024, dashed hands at position 2034. The two on the left turn a lot, the third a little, and the last hardly at all."
figure, axes = plt.subplots(1, 4, figsize=(4.8, 1.5))
turn = np.linspace(0, 2 * np.pi, 100)
for m, ax in enumerate(axes):
    ax.plot(np.sin(turn), np.cos(turn), linewidth=0.8)
    for k, line in ((2024, "solid"), (2034, "dashed")):
        sine, cosine = sinusoidal(k, 8)[2 * m : 2 * m + 2]
        ax.plot([0, sine], [0, cosine], linestyle=line)
    ax.set(aspect="equal", title=f"m = {m}")
    ax.axis("off")
figure.tight_layout()

# %% [markdown] lang="zh"
# 快针管细，慢针管粗，就像个位、十位、百位、千位（[从计数器到时钟](../sinusoidal.md#counter)）。
# 既然如此，应该能从一行数里把位置读回来：先看最慢的针，得到大概的位置；
# 再看快一档的针，从它可能的位置中选最近的一个；这样一档一档读下去。
# 为了不让它太容易，每个数只留一位小数。
#
# **预测：** 只看最慢的针，会差多少？看完四根呢？

# %% [markdown] lang="en"
# Fast hands are fine and slow hands are coarse, like ones, tens, hundreds and thousands
# ([from counters to clocks](../sinusoidal.md#counter)). If so, one should be able to read the
# position back. Take the slowest hand for a rough idea; of all positions that the next faster hand
# allows, take the nearest; and so on down to the fastest. To make it harder, keep only one
# decimal of every number.
#
# **Predict:** how far off is the slowest hand alone? And all four?

# %%
here = sinusoidal(2024, 8).round(1)
print("row   ", here)

k = 0
for m in (3, 2, 1, 0):
    theta = 10000 ** (-2 * m / 8)
    hand = np.arctan2(here[2 * m], here[2 * m + 1])
    turns = 0 if m == 3 else np.round((k * theta - hand) / (2 * np.pi))
    k = (hand + 2 * np.pi * turns) / theta
    print(f"pair {m}", f"{k:8.2f}")

# %% [markdown] lang="zh"
# 最慢的针差了几十个位置；看完四根只差百分之几，取整就对了。
# 十进制的各位数字也是这样分工的，只是这里每一位都连续地转，没有进位时的跳变。
#
# ## 平移 {#shift}
#
# ### 手工找出 2 × 2 的块 {#block}
#
# 手里有位置 $k$ 的一对数，想要位置 $k + s$ 的一对数。加法公式说：
#
# - $\sin\,(k+s)\theta = \sin k\theta \cos s\theta + \cos k\theta \sin s\theta$
# - $\cos\,(k+s)\theta = \cos k\theta \cos s\theta - \sin k\theta \sin s\theta$
#
# 右边关于 $\sin k\theta$ 和 $\cos k\theta$ 是线性的，系数里只有 $s$。
# 把系数填进矩阵，行向量乘在左边：
#
# $\begin{pmatrix} \sin k\theta & \cos k\theta \end{pmatrix} \begin{pmatrix} \cos s\theta & -\sin s\theta \\ \sin s\theta & \cos s\theta \end{pmatrix}$
#
# **预测：** 第一列给出新的正弦还是新的余弦？

# %% [markdown] lang="en"
# The slowest hand is tens of positions off; all four together miss by a few hundredths, and
# rounding gives the position. Decimal digits share the work the same way, but here every digit
# turns smoothly and nothing is carried.
#
# ## Shift {#shift}
#
# ### Find the 2 × 2 block by hand {#block}
#
# We have the pair of position $k$ and want the pair of position $k + s$. The addition theorems
# say:
#
# - $\sin\,(k+s)\theta = \sin k\theta \cos s\theta + \cos k\theta \sin s\theta$
# - $\cos\,(k+s)\theta = \cos k\theta \cos s\theta - \sin k\theta \sin s\theta$
#
# The right-hand sides are linear in $\sin k\theta$ and $\cos k\theta$, and their coefficients know
# $s$ only. Write the coefficients into a matrix, with the row vector to its left:
#
# $\begin{pmatrix} \sin k\theta & \cos k\theta \end{pmatrix} \begin{pmatrix} \cos s\theta & -\sin s\theta \\ \sin s\theta & \cos s\theta \end{pmatrix}$
#
# **Predict:** does the first column give the new sine or the new cosine?

# %%


def block(s, theta):
    return np.array(
        [
            [np.cos(s * theta), -np.sin(s * theta)],
            [np.sin(s * theta), np.cos(s * theta)],
        ]
    )


def pair(k, theta):
    return np.array([np.sin(k * theta), np.cos(k * theta)])


print("pair at  3       ", pair(3, 0.1).round(4))
print("pair at  3, moved", (pair(3, 0.1) @ block(7, 0.1)).round(4))
print("pair at 10       ", pair(10, 0.1).round(4))

# %% [markdown] lang="zh"
# 新的正弦在前，和表的顺序一致。
#
# ### 整行平移 {#whole-row}
#
# 每个频率对一块，沿对角线排开，就是整个平移矩阵。注意里面没有 $k$。
#
# **预测：** 这个矩阵把位置 3 送到位置 10。它能把位置 400 送到 407 吗？把 −5 送到 2 呢？

# %% [markdown] lang="en"
# The new sine comes first, in the order of the table.
#
# ### Move a whole row {#whole-row}
#
# A block for every pair, along the diagonal, is the whole shift matrix. Note that there is no $k$
# in it.
#
# **Predict:** this matrix takes position 3 to position 10. Does it take 400 to 407? And −5 to 2?

# %%


def shift(s, d, b):
    M = np.zeros((d, d))
    for m in range(d // 2):
        pair = slice(2 * m, 2 * m + 2)
        M[pair, pair] = block(s, b ** (-2 * m / d))
    return M


def same(x, y):
    return np.allclose(x, y, rtol=0, atol=1e-12)


M = shift(7, 8, 100)
for k in (3, 400, -5):
    here, there = sinusoidal([k, k + 7], 8, 100)
    print(k, "->", k + 7, same(here @ M, there))
print("posenc", same(M, shift_matrix(7, 8, 100)))

# %% [markdown] lang="zh"
# 都能：一个矩阵管所有的 $k$，负的位置也不例外。每个频率对出一个旋转块，合起来叫平移矩阵
# （[证明](../sinusoidal.md#shift)）。
#
# **预测：** 怎样往回走？先走 3 步再走 4 步，和一次走 7 步一样吗？能走半步吗？

# %% [markdown] lang="en"
# All three: one matrix serves every $k$, negative ones too. It is made of one rotation per pair,
# and it is called the shift matrix ([proof](../sinusoidal.md#shift)).
#
# **Predict:** how do you go back? Are 3 steps and then 4 the same as 7 at once? And is there such
# a thing as half a step?

# %%
half = shift(0.5, 8, 100)

print("back       ", same(M.T, shift(-7, 8, 100)), same(M @ M.T, np.eye(8)))
print("3 and 4    ", same(shift(3, 8, 100) @ shift(4, 8, 100), M))
print("half a step", same(half @ half, shift(1, 8, 100)))

# %% [markdown] lang="zh"
# 转置就是往回走，因为每一块都是旋转；接连平移时，偏移相加；半步也有。
#
# ### 能学出来吗 {#learn}
#
# 矩阵是存在的，那么不告诉你公式，只给数据，能不能把它学出来？
# 训练数据是前 512 行，每一行配上 7 步之后的那一行，用最小二乘求最好的矩阵；
# 再拿没见过的位置来检验，一直到 4096。数据里没有噪声，精确解也确实存在。
#
# **预测：** 表越宽，学得越准，还是越不准？表里的 True 表示误差小于百万分之一。

# %% [markdown] lang="en"
# The transpose goes back, because every block is a rotation; offsets of successive shifts add up;
# and half a step is there too.
#
# ### Can it be learnt? {#learn}
#
# The matrix exists. Without the formula, from data alone, could one learn it? The training data
# are the first 512 rows, each with the row 7 steps on; least squares finds the best matrix.
# Then test it on positions that it has not seen, up to 4096. There is no noise in the data, and an
# exact solution does exist.
#
# **Predict:** does a wider table make the matrix better or worse? True means that the error is
# below one in a million.

# %%


def learn(d, s=7, n_rows=512):
    P = sinusoidal(np.arange(n_rows + s), d)
    return np.linalg.lstsq(P[:-s], P[s:], rcond=None)[0]


def errors(M, s=7, n_rows=4096):
    P = sinusoidal(np.arange(n_rows + s), len(M))
    return np.abs(P[:-s] @ M - P[s:]).max(axis=1)


print("  d  seen   unseen formula")
for d in (4, 8, 16, 64, 256):
    learnt, exact = errors(learn(d)), errors(shift_matrix(7, d))
    small = (e.max() < 1e-6 for e in (learnt[:512], learnt[512:], exact))
    print(f"{d:3}", *(f" {answer!s:5}" for answer in small))

# %% [markdown] lang="zh"
# 窄的时候学得出来；宽度为 64 和 256 时，训练误差还是小得看不见，到了新位置却不对了。
# 而公式给出的矩阵在任何宽度、任何位置都对。为什么会这样？

# %% [markdown] lang="en"
# Narrow tables can be learnt. At widths 64 and 256 the error on the training rows is still too
# small to see, but at new positions the matrix is wrong. The matrix of the formula is right at every
# width and every position. Why?

# %% zh="左：学到的矩阵在各个位置 k 上的误差，纵轴是 10 的指数，竖线左边是训练过的位置。右：训练表的奇异值，从大到小，横轴是序号，纵轴同样是 10 的指数。宽度 64 和 256 的表，靠后的奇异值都沉到了舍入误差里。" en="Left: error of the learnt matrices over the positions k, as a power of ten; left of the vertical line are the positions of the training. Right: singular values of the training table in falling order, also as powers of ten. Those of widths 64 and 256 sink into rounding error long before the last one."
figure, (left, right) = plt.subplots(1, 2, figsize=(4.8, 2.8), sharey=True)
for d, line in ((16, "dotted"), (64, "dashed"), (256, "solid")):
    k = np.arange(0, 4096, 16)
    left.plot(k, np.log10(errors(learn(d))[k]), linestyle=line, linewidth=1.2)
    singular = np.linalg.svd(sinusoidal(np.arange(512), d), compute_uv=False)
    height = np.log10(singular / singular[0])
    right.plot(height, linestyle=line, linewidth=1.2, label=f"d = {d}")
left.axvline(512, color="C3", linewidth=0.8)
left.set(xlabel="k", xticks=[0, 2000, 4000], yticks=[-15, -10, -5, 0])
right.set(xticks=[0, 100, 200])
right.legend(frameon=False)
figure.tight_layout()

# %%
for d in (8, 16, 64, 256):
    singular = np.linalg.svd(sinusoidal(np.arange(512), d), compute_uv=False)
    print(f"{d:3} columns, {np.sum(singular > 1e-9 * singular[0]):2} directions")

# %% [markdown] lang="zh"
# 慢的频率对在 512 个位置里几乎没动，它们的列彼此太像：
# 训练数据只在少数方向上有分量，其余方向上矩阵填什么都能拟合。
# 最小二乘在那里填了零，到了远处，慢针终于转起来，零就不对了。
# 原则上训练数据足以唯一确定矩阵（[证明](../sinusoidal.md#unique)），
# 但这要用到 float64 存不下的小数位。
#
# 解法是别让它猜结构：告诉它一对管一对，每次只求一个 2 × 2 的块。
#
# **预测：** 同样的数据，宽度 256，这回能学出来吗？

# %% [markdown] lang="en"
# Slow pairs have hardly moved within 512 positions, so that their columns look alike. The training
# rows reach into few directions, and in all others any matrix fits. Least squares writes zeros
# there; far out, where the slow hands do turn at last, zeros are wrong. In principle the training
# rows determine the matrix ([proof](../sinusoidal.md#unique)), but only by decimals that float64
# does not hold.
#
# The way out is not to let it guess the structure: say that every pair keeps to itself, and find
# one 2 × 2 block at a time.
#
# **Predict:** the same data, width 256: can it be learnt now?

# %%


def learn_pairs(d, s=7, n_rows=512):
    P = sinusoidal(np.arange(n_rows + s), d)
    M = np.zeros((d, d))
    for m in range(d // 2):
        pair = slice(2 * m, 2 * m + 2)
        M[pair, pair] = np.linalg.lstsq(P[:-s, pair], P[s:, pair], rcond=None)[0]
    return M


print(errors(learn_pairs(256)).max() < 1e-6)

# %% [markdown] lang="zh"
# 能，而且在没见过的位置上也对。所以“平移是线性的”说的是矩阵**存在**，
# 没有说从数据里一定学得到；更没有说模型已经知道了距离（[平移不是距离](../sinusoidal.md#distance)）。
#
# ## 弄坏 {#break}
#
# ### 四项检查 {#checks}
#
# 弄坏之前，先写好检查。正确的表有四个性质：
#
# 1. 范数 `norm`：每对都有 $\sin^2 + \cos^2 = 1$，所以每一行的 $\lVert P_k \rVert^2$ 都是 $d/2$。
# 2. 平移 `shift`：有一个矩阵，把每一行都送到 7 步之后的那一行。表窄的时候最小二乘可靠，正好用来找它。
# 3. 对角线 `diag`：$P_i P_j^\top$ 只取决于 $i - j$，所以每条对角线上是同一个数（[核](../kernel.md)）。
# 4. 间隔 `gap`：任何两行都不太近。
#
# 前三项报告偏差，0 最好；第四项报告最近两行的距离，越大越好。

# %% [markdown] lang="en"
# It can, and it holds at positions that it has not seen. So “shifting is linear” says that the
# matrix **exists**. It does not say that data will give it away, let alone that a model knows
# distances ([a shift is not a distance](../sinusoidal.md#distance)).
#
# ## Break {#break}
#
# ### Four checks {#checks}
#
# Before breaking anything, write the checks. A right table has four properties:
#
# 1. The norm, `norm`: every pair has $\sin^2 + \cos^2 = 1$, so that $\lVert P_k \rVert^2$ is $d/2$
#    in every row.
# 2. The shift, `shift`: one matrix takes every row to the row 7 steps on. The table is narrow, so
#    that least squares can be trusted to find it.
# 3. The diagonals, `diag`: $P_i P_j^\top$ depends on $i - j$ only, so that one number fills
#    each diagonal ([the kernel](../kernel.md)).
# 4. The gap, `gap`: no two rows are close.
#
# The first three report a deviation, at best 0; the fourth, the distance of the two closest rows,
# the greater the better.

# %%
n, d, b, s = 1024, 8, 100, 7
k = np.arange(n)
offset = np.abs(k[:, None] - k)
results = {}


def examine(P):
    G = P @ P.T
    norm = np.diag(G)
    M = np.linalg.lstsq(P[:-s], P[s:], rcond=None)[0]
    squared_distance = norm[:, None] + norm - 2 * G
    return (
        np.ptp(norm),
        np.abs(P[:-s] @ M - P[s:]).max(),
        np.abs(G - G[0, offset]).max(),
        np.sqrt(np.abs(squared_distance[offset > 0]).min()),
    )


def report(**tables):
    print(" " * 11, "  norm  shift   diag    gap")
    for name, P in tables.items():
        results[name] = examine(P)
        print(f"{name:11}", *(f"{value:6.2f}" for value in results[name]))


right = sinusoidal(k, d, b)
report(right=right)

# %% [markdown] lang="zh"
# ### 每列一个频率 {#exponent}
#
# 第一种坏法只差一次整除：指数里该用 `column // 2 * 2`，却直接用了列号。
# 于是正弦列和它旁边的余弦列频率不同，谁也不是谁的另一半。
#
# **预测：** 四项检查，哪几项会报警？

# %% [markdown] lang="en"
# ### A frequency per column {#exponent}
#
# The first break lacks an integer division: the exponent should use `column // 2 * 2`, and it uses
# the column itself. A sine and the cosine next to it now differ in frequency, and neither has its
# other half.
#
# **Predict:** which of the four checks will notice?

# %%
column = np.arange(d)
angles = k[:, None] * b ** (-2 * column / d)
per_column = np.where(column % 2 == 0, np.sin(angles), np.cos(angles))

report(per_column=per_column)

# %% [markdown] lang="zh"
# 四项全报警。内积尤其一目了然：

# %% [markdown] lang="en"
# All four. The inner products show it at a glance:

# %% zh="前 22 个位置两两的内积，行和列都是位置，颜色越浓，内积越大。左：正确的表，每条对角线一个颜色。右：每列一个频率的表，对角线上浓淡不一，连主对角线也不例外。" en="Inner products of the first 22 positions; rows and columns are positions; the stronger the colour, the greater. Left: the right table, one colour along each diagonal. Right: a frequency per column; the colour changes along the diagonals, even along the main one."
figure, axes = plt.subplots(1, 2, figsize=(4.8, 2.6))
for ax, P in zip(axes, (right[:22], per_column[:22]), strict=True):
    ax.pcolormesh(P @ P.T, vmin=-2, vmax=5)
    ax.set(xticks=[0, 10, 20], yticks=[0, 10, 20], xlabel="j", aspect="equal")
    ax.set_ylabel("i", rotation=0, labelpad=8)
    ax.invert_yaxis()
figure.tight_layout()

# %% [markdown] lang="zh"
# 网上流传的一份实现正是这样写的，[主页面](../sinusoidal.md#broken)有更多数据。
#
# ### 第 0 行清零 {#row-zero}
#
# 同一份实现还把第 0 行留成了零，理由是 [CLS] 不需要位置。别的行都不动。
#
# **预测：** 1024 行里只坏了一行，平移检查会报警吗？

# %% [markdown] lang="en"
# An implementation that goes round the web does just this; there are more numbers on
# [the main page](../sinusoidal.md#broken).
#
# ### Row 0 set to zero {#row-zero}
#
# The same implementation leaves row 0 at zero, on the grounds that [CLS] needs no position. All
# other rows stay.
#
# **Predict:** one row of 1024 is wrong. Does the check of the shift notice?

# %%
no_start = right.copy()
no_start[0] = 0

report(row_0_zero=no_start)

# %% [markdown] lang="zh"
# 会：零向量乘任何矩阵还是零，永远到不了第 7 行。前三项都因这一行而坏，只有间隔没事。
# 零不是“没有位置”，而是一个进不去也出不来的位置。
#
# ### 先舍入，还是后舍入 {#rounding}
#
# 训练常用 bfloat16，它只有 8 个有效二进制位，下面用一个函数模拟它。
# 一张表可以先用 float64 算好，最后舍入一次；也可以从位置开始就用 bfloat16。
#
# **预测：** 哪一种坏得厉害？从哪个位置开始坏？

# %% [markdown] lang="en"
# It does: the zero vector times any matrix is zero, and never gets to row 7. This one row fails
# three checks; only the gap is as it was. Zero is not “no position”, but a position that no shift
# enters or leaves.
#
# ### Round first or last {#rounding}
#
# Training often uses bfloat16, which has 8 significant bits; a function imitates it below. One can
# compute the table in float64 and round once, last; or one can hold the positions in bfloat16 from
# the start.
#
# **Predict:** which does more harm? And from which position on?

# %%


def bfloat16(x):
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(fraction * 256) / 256, exponent)


report(
    round_last=bfloat16(right),
    round_first=sinusoidal(bfloat16(k), d, b),
)
print()
print(k[254:262])
print(bfloat16(k[254:262]).astype(int))

# %% [markdown] lang="zh"
# 最后舍入，每个数只差千分之几，四项都安然无恙。先舍入，从 257 起奇数就不存在了：
# 相邻的位置变成同一个，间隔为零。
# 注意范数毫无反应：角度错了，$\sin^2 + \cos^2$ 还是 1。
#
# float32 有 24 位，看上去够用。但角度是位置乘频率，位置越远，同样的相对误差就是越大的角度。
# 下面只有频率和乘积取 float32，正弦仍用 float64 算。
#
# **预测：** 位置到一百万时，误差大概是多少？

# %% [markdown] lang="en"
# Rounding last costs each number a few thousandths, and all four checks stay calm. After rounding
# first, there are no odd numbers from 257 on: neighbours become one position, and the gap is zero.
# Note that the norm does not notice: the angle is wrong, but $\sin^2 + \cos^2$ is still 1.
#
# float32 has 24 bits, which looks like plenty. But the angle is position times frequency, and the
# further out, the more radians are in the same relative error. In the next cell only the frequency
# and the product are float32; sines are still computed in float64.
#
# **Predict:** roughly how large is the error at position one million?

# %%
theta = 100 ** (-2 * np.arange(4) / 8)

for start in (100, 10_000, 1_000_000, 100_000_000):
    far = np.arange(start, start + 100)[:, None]
    coarse = (np.float32(far) * np.float32(theta)).astype(float)
    error = np.abs(np.sin(coarse) - np.sin(far * theta)).max()
    print(f"{start:11,}  {error:.1g}")

# %% [markdown] lang="zh"
# 位置每远 100 倍，误差也大约大 100 倍；到最后一行，误差已经和正弦的整个值域一样大。
# 所以规矩是：角度用 float64 算，表最后舍入一次（[精度](../sinusoidal.md#precision)）。
#
# ### 走一圈又回来 {#near-repeats}
#
# 宽度为 2 时只有一根针，每步转 1 弧度。$2\pi$ 是无理数，它永远不会**恰好**回到原处，
# 但可以很近。平移不改变距离，所以只要看各行离第 0 行多远。
#
# **预测：** 在前 1024 个位置里，哪个位置离位置 0 最近？

# %% [markdown] lang="en"
# A hundred times the position is about a hundred times the error; in the last line it is as large
# as the whole range of a sine. Hence the rule: angles in float64, and round the table once, last
# ([precision](../sinusoidal.md#precision)).
#
# ### Once round and back {#near-repeats}
#
# At width 2 there is one hand, which turns 1 radian a step. Since $2\pi$ is irrational it never
# comes back to **exactly** where it was, but it may come close. Shifts keep distances, so it is
# enough to see how far every row is from row 0.
#
# **Predict:** of the first 1024 positions, which is the closest to position 0?

# %%


def nearest(d, b, n=1024):
    rows = sinusoidal(np.arange(n), d, b)
    distance = np.linalg.norm(rows[1:] - rows[0], axis=1)
    return 1 + distance.argmin(), distance.min(), distance[0]


print(" d  b       closest  distance  neighbour")
narrow = (2, 100), (8, 1.0001), (8, 16), (8, 100)
wide = (64, 1.0001), (64, 16), (64, 10000)
for width, base in narrow + wide:
    place, distance, neighbour = nearest(width, base)
    print(f"{width:2}  {base:<6}  {place:7}  {distance:8.2g}  {neighbour:9.2g}")

# %% [markdown] lang="zh"
# 是 710：它和 113 圈只差十万分之几弧度。宽度 8 也不保险，要看底数：
#
# - 底数接近 1，四根针几乎同速，等于只有一根：60 圈是 376.99 弧度，于是走 377 步就又回来了。
# - 底数 16，频率是 1、½、¼、⅛。最慢的针转一圈，其余的正好转 2、4、8 圈，四根针总是一起回到起点。
# - 底数 100，相邻频率之比是无理数 $\sqrt{10}$，四根针不会恰好同时回来。
#
# 宽度到 64，底数又不太小，针就足够多了：最近的正是邻居。

# %% [markdown] lang="en"
# It is 710, which misses 113 turns by less than a ten-thousandth of a radian. Width 8 is not safe
# either; it depends on the base:
#
# - With a base close to 1 the four hands run at almost the same speed and count as one: 60 turns
#   are 376.99 radians, and after 377 steps all are back.
# - With base 16 the frequencies are 1, ½, ¼ and ⅛. While the slowest hand turns once, the others
#   turn 2, 4 and 8 times, so that all four always come back together.
# - With base 100 neighbouring frequencies are in the ratio $\sqrt{10}$, which is irrational; the
#   four hands never come back at exactly the same moment.
#
# At width 64, with a base that is not too small, there are hands enough: the closest is the
# neighbour.

# %% zh="宽度 8 的各行到第 0 行的距离，横轴是位置 k。实线是底数 16：每隔约 50 个位置，四根针一起回到起点附近。虚线是底数 100：没有哪个位置离得这么近。" en="Distance of the rows from row 0 at width 8, over the position k. Solid, base 16: about every 50 positions, all four hands come back to where they began. Dashed, base 100: no position comes as close."
figure, ax = plt.subplots(figsize=(4.8, 2.6))
for base, line in ((16, "solid"), (100, "dashed")):
    rows = sinusoidal(np.arange(210), 8, base)
    distance = np.linalg.norm(rows - rows[0], axis=1)
    ax.plot(distance, linestyle=line, linewidth=1.4)
ax.set(xlabel="k", xlim=(0, 209), ylim=(0, None))
figure.tight_layout()

# %% [markdown] lang="zh"
# 四项检查里，这种坏法只有一项看得见：

# %% [markdown] lang="en"
# Of the four checks, only one can see this break:

# %%
report(base_16=sinusoidal(k, d, 16))

# %% [markdown] lang="zh"
# 这张表处处符合公式，毛病在参数：平移照样精确，内积照样只看偏移，
# 只是有些偏移和 0 分不清（[互不相同到什么程度](../sinusoidal.md#injective)）。
#
# ### 奇数宽度 {#odd}
#
# 宽度为 7 时，最后一个正弦没有余弦。posenc 给得出这张表，却不肯给平移矩阵。
#
# **预测：** 范数的平方会在多大的范围里变？

# %% [markdown] lang="en"
# This table follows the formula everywhere; what is wrong is the parameter. Shifts are still exact,
# and inner products still depend on the offset only; it is just that some offsets cannot be told
# from 0 ([how distinct the rows are](../sinusoidal.md#injective)).
#
# ### An odd width {#odd}
#
# At width 7 the last sine has no cosine. posenc gives this table, but refuses to give a shift
# matrix.
#
# **Predict:** over what range does the squared norm vary?

# %%
report(width_7=sinusoidal(k, 7, b))

try:
    shift_matrix(7, 7, b)
except ValueError as error:
    print(error)

# %% [markdown] lang="zh"
# 变化范围是 1：那个落单的正弦，平方在 0 和 1 之间来回。
# 少了余弦，就不知道正弦是在上升还是在下降：两个位置的正弦可以相等，7 步之后却不等，
# 光看这一列，算不出它 7 步之后的值（[为什么成对](../sinusoidal.md#pairs)）。
#
# ### 各有各的指纹 {#fingerprints}
#
# 把结果放在一起。前三项偏差超过 0.05，或者最近距离小于 0.2，就记一个 x。

# %% [markdown] lang="en"
# The range is 1: the square of the lone sine goes back and forth between 0 and 1. Without its
# cosine, nobody knows whether the sine is rising or falling. It may be the same at two positions
# and differ 7 steps later; the column alone cannot tell ([why pairs](../sinusoidal.md#pairs)).
#
# ### Fingerprints {#fingerprints}
#
# Put the results together. A deviation above 0.05, or a closest distance below 0.2, gets an x.

# %%
print(" " * 11, "  norm  shift   diag    gap")
for name, (*deviations, gap) in results.items():
    bad = [*(value > 0.05 for value in deviations), gap < 0.2]
    print(f"{name:11}", *("     x" if answer else "     ." for answer in bad))

# %% [markdown] lang="zh"
# 没有哪一项能发现所有的坏法：只看范数，会放过先舍入和底数太小；
# 只看平移或对角线，会放过底数太小；只看间隔，会放过清零和奇数宽度。
# 四项一起看，这里的坏法一个也不漏。清零和奇数宽度的指纹相同，但看一眼哪些行的范数不对，就分得开。
#
# ## 带走什么 {#take-away}
#
# - 一张表，一个公式：角度等于位置乘频率，每对记一个正弦和一个余弦（[公式](../sinusoidal.md#formula)）。
# - 快针分辨邻居，慢针分辨远近，合起来能读回位置（[一维有什么含义](../sinusoidal.md#meaning)）。
# - 平移是一个只含偏移的正交矩阵；它存在，不等于从数据里学得到（[平移矩阵唯一](../sinusoidal.md#unique)）。
# - 内积只看偏移，这是[核](../kernel.md)的事。
# - 检查一份实现，别只比形状，也别只看热力图：查范数、平移、内积和间隔。

# %% [markdown] lang="en"
# No single check finds every break. The norm alone lets rounding first and the small base pass; the
# shift alone or the diagonals alone, the small base; the gap alone, the zeros and the odd width.
# Together the four miss none of these. Zeros and odd width share a fingerprint, but the rows whose
# norm is wrong tell them apart.
#
# ## What to take away {#take-away}
#
# - One table, one formula: the angle is position times frequency, and each pair keeps a sine and a
#   cosine ([formula](../sinusoidal.md#formula)).
# - Fast hands tell neighbours apart, slow hands tell near from far, and together they can be read
#   ([what a dimension means](../sinusoidal.md#meaning)).
# - A shift is an orthogonal matrix that knows the offset only; that it exists does not mean that
#   data will teach it ([the shift matrix is unique](../sinusoidal.md#unique)).
# - Inner products depend on the offset only, which is the matter of [the kernel](../kernel.md).
# - To check an implementation, do not just compare shapes or look at a heat map: check norm, shift,
#   inner products and gap.

# %% [markdown] lang="zh"
# ## 自己试试 {#try}
#
# 下载笔记本，改一个地方，先预测，再运行：
#
# 1. 读位置时不舍入，四根针各读出什么？一位小数也不留呢？把底数换成 16 呢？
# 2. 用 `layout="halves"` 造表，前半是正弦，后半是余弦。四项检查会变吗？`shift` 要怎样改？
# 3. 用 `spacing="tensor2tensor"` 造表。它和论文的表哪里不同？四项检查分得出来吗？答案在[三种排法](../sinusoidal.md#layouts)一节。
# 4. 给表乘 2。哪一项检查会变，变多少？再给每一行加同一个向量呢？

# %% [markdown] lang="en"
# ## Try it yourself {#try}
#
# Download the notebook, change one thing, predict, then run:
#
# 1. Read the position without rounding: what does each hand say? And if you round to whole
#    numbers? And with base 16?
# 2. Build the table with `layout="halves"`, sines first, then cosines. Do the four checks change?
#    What must change in `shift`?
# 3. Build the table with `spacing="tensor2tensor"`. Where does it differ from the paper's? Can the
#    four checks tell? The answer is in the section [Three layouts](../sinusoidal.md#layouts).
# 4. Multiply the table by 2. Which checks change, and by how much? And if you add one and the same
#    vector to every row?
