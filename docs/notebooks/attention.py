# %% [markdown] lang="zh"
# # 动手：亲手打乱一个句子 {#notebook-attention}
#
# “猫抓老鼠”和“老鼠抓猫”用的是同样三个词元，意思却正好相反。
# 如果只把词元的向量交给注意力，不告诉它谁在前、谁在后，它能看出两句话的区别吗？
#
# 这一页不做推导，只做实验。每个实验之前都有一个问题，请先写下你的预测，再看结果。
# 推导和证明在[注意力为什么需要位置](../attention.md)一页。
# 全部代码只需要 NumPy、Matplotlib 和 posenc；下载的笔记本在装好它们之后可以直接运行。

# %% [markdown] lang="en"
# # Hands on: shuffle a sentence yourself {#notebook-attention}
#
# 猫抓老鼠 means *the cat chases the mouse*; 老鼠抓猫, *the mouse chases the cat*, is made of
# the same three tokens (猫 cat, 抓 chases, 老鼠 mouse) and says the opposite. Give attention the
# vectors of the tokens, but do not say which comes first: can it tell the two sentences apart?
#
# This page derives nothing. It experiments. A question stands before every experiment: write
# down your prediction, then look. Derivations and proofs are on the page
# [Why attention needs positions](../attention.md). All of the code needs NumPy, Matplotlib and
# posenc only; with these installed, the downloaded notebook runs as it is.

# %% [markdown] lang="zh"
# ## 三个词元，三个向量 {#tokens}
#
# 每个词元对应一行，宽度为 4。向量是随机取的，因为下面的结论对任何向量都成立；
# 取成 0.5 的倍数，只是为了好读。

# %% [markdown] lang="en"
# ## Three tokens, three vectors {#tokens}
#
# Every token is a row of width 4. The vectors are random, because what follows holds for any;
# they are multiples of 0.5 so that they are easy to read.

# %%
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np

from posenc.equations.attention import attention, attention_weights, causal_mask

tokens = np.array(["猫", "抓", "老鼠"])
rng = np.random.default_rng(6)
x = rng.integers(-4, 5, size=(3, 4)) / 2


def show(tokens, rows):
    for token, row in zip(tokens, rows, strict=True):
        numbers = " ".join(f"{value:6.2f}" for value in row)
        print(token.ljust(2, "\u3000"), numbers)


show(tokens, x)

# %% [markdown] lang="zh"
# ## 一次注意力 {#one-pass}
#
# 三个随机矩阵把每一行变成查询、键和值，$q_i = x_i W^Q$、$k_j = x_j W^K$、$v_j = x_j W^V$，
# 然后 $z_i = \sum_j \alpha_{ij} v_j$。公式里有 $i$ 和 $j$，但它们只是行的名字。
#
# **预测：** 输出有几行？哪一行属于“猫”？

# %% [markdown] lang="en"
# ## One pass of attention {#one-pass}
#
# Three random matrices turn every row into a query, a key and a value, $q_i = x_i W^Q$,
# $k_j = x_j W^K$ and $v_j = x_j W^V$; then $z_i = \sum_j \alpha_{ij} v_j$. The formula has an
# $i$ and a $j$, but they are mere names of rows.
#
# **Predict:** how many rows does the output have? Which one belongs to 猫?

# %%
W_Q, W_K, W_V = rng.integers(-2, 3, size=(3, 4, 4)) / 2


def layer(x, mask=None):
    return attention(x @ W_Q, x @ W_K, x @ W_V, mask=mask)


show(tokens, layer(x))

# %% [markdown] lang="zh"
# 每个词元得到一行新向量：它把三个值按自己的权重加在一起。第一行属于“猫”，因为第一个查询是它的。

# %% [markdown] lang="en"
# Every token gets a new row: the three values, added up with weights of its own. The first row
# belongs to 猫, because the first query does.

# %% [markdown] lang="zh"
# ## 把句子打乱 {#shuffle}
#
# 现在把三行重新排成“老鼠抓猫”，其余一概不动。
#
# **预测：** “猫”的输出向量会变吗？

# %% [markdown] lang="en"
# ## Shuffle the sentence {#shuffle}
#
# Now put the three rows in the order 老鼠抓猫, and touch nothing else.
#
# **Predict:** does the output vector of 猫 change?

# %%
swap = [2, 1, 0]

show(tokens[swap], layer(x[swap]))

# %% [markdown] lang="zh"
# 和上面是同样的三行，只是跟着词元换了位置。“猫”不知道自己从主语变成了宾语。
# 这叫**置换等变**：$f(\Pi X) = \Pi f(X)$，先打乱再做注意力，等于先做注意力再打乱。
#
# 注意它不是“不变”：输出的第一行确实变了，因为第一行现在属于“老鼠”。
# 下面对全部六种排列各量一次，把“等变”和“不变”分开来看。

# %% [markdown] lang="en"
# The same three rows as above; they moved along with their tokens. 猫 does not know that it has
# turned from subject to object. This is **permutation equivariance**: $f(\Pi X) = \Pi f(X)$, to
# shuffle and then attend is to attend and then shuffle.
#
# It is not invariance: the first row of the output did change, because the first row is now
# 老鼠's. The next cell measures all six orders, equivariance and invariance apart.

# %%
for order in map(list, permutations(range(3))):
    equivariant = np.abs(layer(x[order]) - layer(x)[order]).max()
    invariant = np.abs(layer(x[order]) - layer(x)).max()
    print(order, "f(PX) = P f(X):", equivariant < 1e-12, "  |f(PX) - f(X)|:", f"{invariant:.2f}")

# %% [markdown] lang="zh"
# “等变”六次都成立，误差只剩舍入；“不变”只在没有打乱时成立。

# %% [markdown] lang="en"
# Equivariance holds six times, up to rounding. Invariance holds only where nothing was shuffled.

# %% [markdown] lang="zh"
# ## 看一看权重 {#weights}
#
# 等变是怎么来的？看权重 $\alpha_{ij}$ 就知道了。
#
# **预测：** 打乱之后，权重矩阵里会出现新的数吗？

# %% [markdown] lang="en"
# ## Look at the weights {#weights}
#
# Where does equivariance come from? The weights $\alpha_{ij}$ tell.
#
# **Predict:** are there new numbers in the matrix of weights after the shuffle?

# %% zh="左：原句的权重矩阵；右：打乱后的权重矩阵。行是查询，列是键，坐标轴上的数字是词元在原句中的编号。右边的每个数都能在左边同一对编号下找到。" en="Left: the weights of the original sentence; right: of the shuffled one. Rows are queries, columns are keys; the numbers on the axes number the tokens of the original sentence. Every number on the right stands on the left at the same pair."
figure, axes = plt.subplots(1, 2, figsize=(4.8, 2.5))
for ax, order in zip(axes, ([0, 1, 2], swap), strict=True):
    weights = attention_weights(x[order] @ W_Q, x[order] @ W_K)
    ax.pcolormesh(weights, vmin=0, vmax=1)
    for (i, j), weight in np.ndenumerate(weights):
        ax.text(j + 0.5, i + 0.5, f"{weight:.2f}", ha="center", va="center")
    ax.set_xticks(np.arange(3) + 0.5, order)
    ax.set_yticks(np.arange(3) + 0.5, order)
    ax.set(xlabel="j", aspect="equal")
    ax.set_ylabel("i", rotation=0, labelpad=8)
    ax.invert_yaxis()
figure.tight_layout()

# %% [markdown] lang="zh"
# 没有新的数：行和列一起换了位置而已。
# $\alpha_{ij}$ 只取决于 $x_i$ 和 $x_j$ 的内容（以及分母里所有键的和），从不取决于 $i - j$。
# 相隔多远、谁在前面，公式里根本没有这样的量。

# %% [markdown] lang="en"
# No new number: rows and columns moved together. $\alpha_{ij}$ depends on what is in $x_i$ and
# $x_j$ (and on the sum over all keys below the fraction bar), never on $i - j$. How far apart,
# and who comes first: the formula has no such quantity.

# %% [markdown] lang="zh"
# ## 平均一下，再多叠几层 {#deeper}
#
# 分类时常把所有输出平均成一个向量。也许层数多了，就能看出顺序？
# 下面的一层是“注意力加残差，再加一个逐行的非线性”。
#
# **预测：** 叠到第几层，两句话的平均向量会开始不同？

# %% [markdown] lang="en"
# ## Take the mean, and go deeper {#deeper}
#
# Classifiers often average all outputs into one vector. Perhaps more layers can see the order?
# Here a layer is attention with a residual connection, then something nonlinear row by row.
#
# **Predict:** from which layer on do the means of the two sentences differ?

# %%


def deep(x, n_layers, mask=None):
    for _ in range(n_layers):
        x = np.tanh(x + layer(x, mask))
    return x


for n_layers in (1, 2, 4, 8):
    difference = np.abs(deep(x, n_layers).mean(0) - deep(x[swap], n_layers).mean(0)).max()
    print(n_layers, difference < 1e-12)

# %% [markdown] lang="zh"
# 永远不会。等变的映射一个接一个，整体仍然等变；对一组只是换了位置的行求平均，结果不变。
# 所以没有位置的 Transformer 读到的是一个**集合**。
# 但它不是“词袋”：词元之间仍然互相影响，只是与先后无关（[证明](../attention.md#set-function)）。

# %% [markdown] lang="en"
# Never. Equivariant maps one after the other are equivariant as a whole, and the mean of rows
# that only changed places is the same mean. A Transformer without positions reads a **set**. Not
# a bag of words, though: the tokens still act on each other, just not by their order
# ([proof](../attention.md#set-function)).

# %% [markdown] lang="zh"
# ## 加一个掩码 {#mask}
#
# 语言模型用因果掩码：每个词元只能看自己和前面的词元。掩码本身写着“前面”两个字。
# 现在打乱前两个词元，只看最后一个词元“老鼠”的输出。
#
# **预测：** 一层时，“老鼠”能发现前文被打乱了吗？两层呢？

# %% [markdown] lang="en"
# ## Add a mask {#mask}
#
# Language models use a causal mask: a token sees itself and what came before it. So the mask
# says *before*. Now shuffle the first two tokens, and look at the output of the last, 老鼠.
#
# **Predict:** with one layer, can 老鼠 find out that its past was shuffled? And with two?

# %%
mask = causal_mask(3)
prefix = [1, 0, 2]

for n_layers in (1, 2, 3):
    last, shuffled = deep(x, n_layers, mask)[-1], deep(x[prefix], n_layers, mask)[-1]
    difference = np.abs(last - shuffled).max()
    print(n_layers, "<1e-12" if difference < 1e-12 else f"{difference:.2f}")

# %% [markdown] lang="zh"
# 一层不行：最后一个查询看得到全部词元，对它来说掩码等于没有，而它的键和值还没有被掩码碰过。
# 从第二层起可以：第一层里，“猫”和“抓”各自看到的前文不同，它们的输出已经带上了顺序。
#
# 掩码甚至能告诉词元自己排第几。让第一个词元与众不同，其余全都一样：

# %% [markdown] lang="en"
# One layer is not enough: the last query sees all of the tokens, so that to it the mask is not
# there, and no mask has touched its keys and values yet. From the second layer on it can: in the
# first, 猫 and 抓 saw different pasts, and their outputs carry the order along.
#
# A mask can even tell a token its place. Let the first token stand out, and all others be alike:

# %%
marks = np.zeros((8, 1))
marks[0] = 1  # the value says: this is the first token
nothing = np.zeros((8, 1))  # queries and keys say nothing at all

with_mask = attention(nothing, nothing, marks, mask=causal_mask(8))[:, 0]
without = attention(nothing, nothing, marks)[:, 0]
print("with mask   ", " ".join(f"{value:.3f}" for value in with_mask))
print("without mask", " ".join(f"{value:.3f}" for value in without))
print("place       ", (1 / with_mask - 1).round().astype(int))

# %% [markdown] lang="zh"
# 有掩码时，位置 $t$ 的词元把 $1/(t+1)$ 的权重给了第一个词元，从这个数就能读出 $t$；
# 没有掩码时，所有词元读到的是同一个数。
# 不加位置编码的语言模型也就有了分辨位置的依据（[更多](../attention.md#bos)）。

# %% [markdown] lang="en"
# With the mask, the token at position $t$ gives the first token a weight of $1/(t+1)$, and that
# number tells $t$; without the mask all tokens read the same number. This is something for a
# language model without position encoding to go by ([more](../attention.md#bos)).

# %% [markdown] lang="zh"
# ## 加上位置 {#positions}
#
# 不想依赖掩码，就得亲口告诉注意力谁在哪里。最简单的办法：给每个位置一个向量，加到词元上。
# 位置向量**留在原地**，词元在它们上面换来换去。这里随便取三个不同的向量。
#
# **预测：** 现在“猫”在两句话里的输出还一样吗？平均向量呢？

# %% [markdown] lang="en"
# ## Add positions {#positions}
#
# Whoever does not want to rely on a mask must say who is where. The simplest way: one vector per
# position, added to the token there. The position vectors **stay in place** while the tokens
# move over them. Any three different vectors will do here.
#
# **Predict:** does 猫 still get the same output in both sentences? And the mean?

# %%
p = rng.integers(-2, 3, size=(3, 4)) / 2

show(["猫", "猫"], [layer(x + p)[0], layer(x[swap] + p)[2]])
print()
print("mean")
show(["", ""], [layer(x + p).mean(0), layer(x[swap] + p).mean(0)])

# %% [markdown] lang="zh"
# 都不一样了：对称被打破，主语的“猫”和宾语的“猫”成了两个不同的向量。
#
# 打破多少，由位置向量的大小说了算。把它们统一乘上 $\varepsilon$，再量两句话平均向量的差。
#
# **预测：** $\varepsilon$ 从 0 慢慢变大，曲线在 0 附近是平的，还是斜的？

# %% [markdown] lang="en"
# Nothing is the same now: the symmetry is broken, and 猫 as subject and 猫 as object are two
# different vectors.
#
# By how much it is broken is up to the size of the position vectors. Multiply them all by
# $\varepsilon$, and measure how far apart the means of the two sentences are.
#
# **Predict:** as $\varepsilon$ grows from 0, does the curve start flat or with a slope?

# %% zh="两句话平均输出的差随位置向量的大小 ε 变化。ε = 0 时差为 0；在 0 附近，曲线贴着虚线所示的切线。" en="Difference of the mean outputs of the two sentences against the size ε of the position vectors. It is 0 at ε = 0; near 0 the curve keeps to its tangent, the dashed line."


def gap(size):
    return np.linalg.norm(layer(x + size * p).mean(0) - layer(x[swap] + size * p).mean(0))


sizes = np.linspace(0, 1, 101)
figure, ax = plt.subplots(figsize=(4.8, 2.6))
ax.plot(sizes, [gap(size) for size in sizes])
ax.plot(sizes[:31], sizes[:31] * gap(1e-4) / 1e-4, linestyle="dashed")
ax.set(xlabel="ε", xlim=(0, 1), ylim=(0, None))
figure.tight_layout()

# %% [markdown] lang="zh"
# 斜的：位置在一阶就起作用，很小的向量也足以让两句话分开。
# 这正是[泰勒展开](../attention.md#taylor)的第一项；同时涉及两个位置的项要到二阶才出现。

# %% [markdown] lang="en"
# With a slope: positions act at first order, so that even small vectors tell the sentences
# apart. These are the first terms of the [Taylor expansion](../attention.md#taylor); a term that
# knows two positions at once comes only at second order.

# %% [markdown] lang="zh"
# ## 自己试试 {#try}
#
# 下载笔记本，改一个地方，先预测，再运行：
#
# 1. 让 `p` 的三行相同。注意力发现了什么？一个词元知道的是位置，还是位置之间的差别？
# 2. 让“猫”和“老鼠”的向量相同，`x[2] = x[0]`，不加位置。哪些输出行会变得一样？再加上 `p` 呢？
# 3. 找一个不为零、注意力却看不见的位置向量：先让三个矩阵的最后一行为零，再把位置写进最后一维。
#    答案在[互不相同还不够](../attention.md#removable)一节。

# %% [markdown] lang="en"
# ## Try it yourself {#try}
#
# Download the notebook, change one thing, predict, then run:
#
# 1. Make the three rows of `p` equal. What does attention find out? Does a token know its
#    position, or the difference between positions?
# 2. Give 猫 and 老鼠 the same vector, `x[2] = x[0]`, without positions. Which rows of the output
#    become equal? And once you add `p`?
# 3. Find position vectors that are not zero and that attention does not see: set the last row of
#    each of the three matrices to zero, then write the position into the last dimension. The
#    answer is in the section [Distinct is not enough](../attention.md#removable).
